"""Branches and loops of traced programs: cond, switch, while_loop, fori_loop, scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from ..dims import same, unwrap
from ..errors import ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Graph, Node
from ..numpy.array import Array, as_array
from ..ops import branches as branching
from ..ops import loops
from ..ops.control import parts, placeholder
from .trace import Staged, closed, finish, flatten_arguments, function_name, stage

_INDEX = np.dtype(np.int64)


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """Return ``true_fun(*operands)`` where `pred` holds, else ``false_fun(*operands)``.

    Under `vmap` with one predicate per example, each function runs once, on the examples that take it.

    Parameters
    ----------
    pred : bool
        One truth value; a plain one chooses at once, and only that function is traced.
    true_fun, false_fun : callable
        Functions of the operands with results of the same structure, shapes and dtypes.
    *operands : pytrees of arrays

    Raises
    ------
    ShapeError
        If `pred` is not one value, or the results differ in structure or type.
    """
    test = as_array(pred)
    if test.ndim:
        raise ShapeError(at_user_line(f"cond: the condition must be one value, got {test._node.type}. For a choice per "
                                      "element use np.where"))
    if not isinstance(pred, Array):
        return (true_fun if pred else false_fun)(*operands)
    return switch((test if test.dtype == np.bool_ else test != 0).astype(_INDEX), [false_fun, true_fun], *operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Return ``branches[index](*operands)``, the index limited to the range of the branches.

    Parameters
    ----------
    index : int
        One integer; a plain one chooses at once.
    branches : sequence of callable
        Functions of the operands with results of the same structure, shapes and dtypes.
    *operands : pytrees of arrays
    """
    branches = list(branches)
    number = as_array(index)
    if not branches:
        raise TraceError(at_user_line("switch: no branches"))
    if number.ndim or number.dtype.kind not in "iu":
        raise ShapeError(at_user_line(f"switch: the index must be one integer, got {number._node.type}"))
    if not isinstance(index, Array):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    leaves, tree, types = flatten_arguments(branches[0], operands, {})
    staged = [stage(f, operands, {}, (leaves, tree, types)) for f in branches]
    for s in staged[1:]:
        _same_result("switch", staged[0], s)
    bodies, free = _together(staged)
    chosen = placeholder(ArrayType((), _INDEX))
    inputs = [placeholder(t) for t in types]
    node = branching.switch(chosen, *inputs, *free, graphs=tuple(bodies), rows=(False,) * (len(inputs) + len(free)),
                        sums=(False,) * len(bodies[0].outputs))
    return finish([chosen, *inputs], [number.astype(_INDEX), *leaves], parts(node), staged[0].out_tree)


def _same_result(name: str, a: Staged, b: Staged) -> None:
    if a.out_tree != b.out_tree:
        raise ShapeError(at_user_line(f"{name}: {function_name(a.f)} and {function_name(b.f)} return different "
                                      f"structures: {a.out_tree} and {b.out_tree}"))
    for n, m in zip(a.outputs, b.outputs, strict=True):
        if n.type != m.type:
            raise ShapeError(at_user_line(f"{name}: {function_name(a.f)} returns {n.type} where {function_name(b.f)} "
                                          f"returns {m.type}. Cast or reshape one of them."))


def _together(staged: Sequence[Staged]) -> tuple[list[Graph], list[Node]]:
    """Return the functions as graphs with the same inputs: their own, and all outer values that any of them uses."""
    held = [closed(s) for s in staged]
    free = list(dict.fromkeys(n for _, outer in held for n in outer))
    graphs = []
    for s, (graph, outer) in zip(staged, held, strict=True):
        own = graph.inputs[:len(s.inputs)]
        places = dict(zip(outer, graph.inputs[len(s.inputs):], strict=True))
        graphs.append(graph.replace(
            inputs=(*own, *(places.get(n) or placeholder(n.type) for n in free)),
            names=(*graph.names[:len(own)], *(f"outer{i}" for i in range(len(free))))))
    return graphs, free


def while_loop(test: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """Run ``state = body(state)`` from `init` as long as ``test(state)`` holds.

    Forward mode goes through it; reverse mode does not, since the steps are not counted before the program
    runs. Under `vmap` it runs until the last example is done; an example that is done keeps its state.

    Parameters
    ----------
    test : callable
        Takes the state, returns one bool.
    body : callable
        Takes the state, returns the next one, of the same structure, shapes and dtypes.
    init : pytree of arrays
    """
    first = stage(body, (init,), {})
    types = _widened("while_loop", first, init)
    leaves, tree, _ = flatten_arguments(body, (init,), {})
    staged = [stage(f, (init,), {}, (leaves, tree, types)) for f in (test, body)]
    (test_graph, body_graph), free = _together(staged)
    inputs = [placeholder(t) for t in types]

    def reorder(graph: Graph) -> Graph:  # outer values first, then the state
        k = len(inputs)
        return graph.replace(inputs=(*graph.inputs[k:], *graph.inputs[:k]),
                             names=(*graph.names[k:], *graph.names[:k]))

    node = loops.while_(*free, *inputs, test=reorder(test_graph), body=reorder(body_graph), count=len(free))
    return finish(inputs, leaves, parts(node), staged[1].out_tree)


def _widened(name: str, staged: Staged, init: Any) -> list[ArrayType]:
    """Return the types of a loop's state: those of `init`, where Python numbers take the dtype of what follows."""
    tree = optree.tree_structure(init)
    result_tree = staged.out_tree
    if result_tree != tree:
        raise ShapeError(at_user_line(f"{name}: the state goes in as {tree} and comes out as {result_tree}"))
    types = []
    for n, o, x in zip(staged.inputs, staged.outputs, staged.leaves, strict=True):
        weak = x._weak if isinstance(x, Array) else isinstance(x, (int, float)) and not isinstance(x, bool)
        t = ArrayType(n.shape, o.dtype) if weak else n.type
        if o.type != t:
            raise ShapeError(at_user_line(f"{name}: the state goes in as {t} and comes out as {o.type}. Shapes and "
                                          "dtypes must stay the same from step to step."))
        types.append(t)
    return types


def scan(f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
         reverse: bool = False) -> tuple[Any, Any]:
    """Carry a value along an axis: ``carry, y = f(carry, x)`` for each slice `x` of `xs`.

    Parameters
    ----------
    f : callable
        One step. The carry keeps its structure, shapes and dtypes. Wrapped in `mg.checkpoint`, the step is
        computed again in reverse mode instead of kept.
    init : pytree of arrays
    xs : pytree of arrays, optional
        Sliced along axis 0, all of one length.
    length : int, optional
        The number of steps; needed where there is no `xs`.
    reverse : bool
        Start at the last slice.

    Returns
    -------
    (carry, ys)
        The last carry, and the y of every step stacked along axis 0.
    """
    leaves, _, types = flatten_arguments(f, (init, xs), {})
    n_carry = optree.tree_structure(init).num_leaves
    sizes = [unwrap(n) for n in ([length] if length is not None else [])]
    for t in types[n_carry:]:
        if not t.ndim:
            raise ShapeError(at_user_line(f"scan: {t} has no axis to step along"))
        sizes.append(t.shape[0])
    if not sizes:
        raise ShapeError(at_user_line("scan: give xs or a length"))
    if not all(same(n, sizes[0]) for n in sizes):
        raise ShapeError(at_user_line(f"scan: lengths differ: {', '.join(map(str, sizes))}"))
    tree = optree.tree_structure(((init, xs), {}))
    slices = [ArrayType(t.shape[1:], t.dtype) for t in types[n_carry:]]

    def staged_with(carry: Sequence[ArrayType]) -> Staged:
        staged = stage(f, (init, xs), {}, (leaves, tree, [*carry, *slices]))
        if not isinstance(staged.result, tuple) or len(staged.result) != 2:
            raise TraceError(at_user_line(f"scan: {function_name(f)} must return (carry, y); y may be None"))
        return staged

    staged = staged_with(types[:n_carry])
    carry_out, y_tree = (optree.tree_structure(part) for part in staged.result)
    head = Staged(f, (), {}, leaves[:n_carry], None, staged.inputs[:n_carry], None, staged.outputs[:n_carry], carry_out)
    carry = _widened("scan", head, init)
    staged = staged_with(carry)
    body, free = closed(staged)
    k = len(staged.inputs)
    body = body.replace(inputs=(*body.inputs[k:], *body.inputs[:k]), names=(*body.names[k:], *body.names[:k]))
    inputs = [placeholder(t) for t in (*carry, *types[n_carry:])]
    node = loops.scan(*free, *inputs, body=body, counts=(len(free), n_carry), length=sizes[0], reverse=bool(reverse))
    out_tree = optree.tree_structure((optree.tree_unflatten(carry_out, [0] * carry_out.num_leaves),
                                      optree.tree_unflatten(y_tree, [0] * y_tree.num_leaves)))
    return finish(inputs, leaves, parts(node), out_tree)


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """Run ``state = body(i, state)`` for i from `lower` to `upper`.

    With plain ints for bounds it is a `scan`, which every derivative goes through; with traced bounds, a
    `while_loop`.
    """
    if isinstance(lower, Array) or isinstance(upper, Array):
        _, _, state = while_loop(lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1], body(s[0], s[2])),
                                 (as_array(lower).astype(_INDEX), as_array(upper).astype(_INDEX), init))
        return state
    steps = np.arange(int(lower), max(int(upper), int(lower)))
    return scan(lambda state, i: (body(i, state), None), init, steps)[0]

