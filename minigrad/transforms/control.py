"""Branches and loops of traced programs: cond, switch, while_loop, fori_loop, scan."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence

import numpy as np
import optree

from ..errors import ShapeError, TraceError, at_user_line, format_structure
from ..graph import ArrayType, Graph, Node, PyTree, reachable
from ..numpy.arguments import checked_cast, of_several_axes
from ..numpy.creation import arange
from ..ops import branches as branching
from ..ops import loops
from ..ops.control import parts
from ..ops.elementwise import cast_to
from ..ops.results import zero
from ..ops.subgraph import fixed_point
from ..primitive import placeholder
from ..sizes import Size, unwrap
from ..symbolic import Dim, differs
from ..tracebacks import boundary
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import guard_equal, guard_equal_shapes, tracing
from .closures import closed
from .trace import Call, Staged, function_name, is_weak, refuse_foreign, rewritten

_INDEX = np.dtype(np.int64)


@boundary
def cond(pred: ArrayLike, true_fun: Callable[..., PyTree], false_fun: Callable[..., PyTree],
         *operands: PyTree) -> PyTree:
    """Return ``true_fun(*operands)`` where `pred` holds, else ``false_fun(*operands)``.

    Under `vmap` with one predicate per example, each function runs once, on the examples that take it.

    Parameters
    ----------
    pred : bool
        One truth value; a plain one chooses at once, and only that function is traced.
    true_fun, false_fun : callable
        Functions of the operands with results of the same structure, shapes and dtypes; or without, where one of them
        has an effect: ``mg.cond(x > 9, lambda: mg.print("{}", x), lambda: None)``.
    *operands : pytrees of arrays

    Returns
    -------
    pytree of arrays
        The result of the chosen function.

    Raises
    ------
    ShapeError
        If `pred` is not one value, or the results differ in structure or type.

    Examples
    --------
    >>> @mg.vmap
    ... def root(x):
    ...     return mg.cond(x > 0, np.sqrt, np.zeros_like, x)
    >>> root(np.array([4.0, -1.0]))
    array([2., 0.])
    """
    _functions("cond", "mg.cond(condition, f, g, x)", true_fun, false_fun)
    test = as_array(pred)
    if test.ndim:
        raise ShapeError(at_user_line(f"cond: the condition must be one value, got {test._node.type}. For a choice per "
                                      "element use np.where"))
    if not _is_traced(pred):
        return _only(true_fun if pred else false_fun, operands)
    index = (test if test.dtype == np.bool_ else test != 0).astype(_INDEX)
    return _branch("cond", index, {"false_fun": false_fun, "true_fun": true_fun}, operands)


@boundary
def switch(index: Array | int | np.integer, branches: Sequence[Callable[..., PyTree]], *operands: PyTree) -> PyTree:
    """Return ``branches[index](*operands)``, the index limited to the range of the branches.

    Parameters
    ----------
    index : int
        One integer; a plain one chooses at once.
    branches : sequence of callable
        Functions of the operands with results of the same structure, shapes and dtypes.
    *operands : pytrees of arrays

    Returns
    -------
    pytree of arrays
        The result of the chosen branch.

    Examples
    --------
    >>> mg.switch(1, [np.negative, np.square], 3.0)
    np.float64(9.0)
    """
    branches = list(branches)
    number = as_array(index)
    if not branches:
        raise TraceError(at_user_line("switch: no branches"))
    _functions("switch", "mg.switch(index, [f, g], x)", *branches)
    if number.ndim or number.dtype.kind not in "iu":
        raise ShapeError(at_user_line(f"switch: the index must be one integer, got {number._node.type}"))
    if not _is_traced(index):
        return _only(branches[min(max(int(index), 0), len(branches) - 1)], operands)
    return _branch("switch", number.astype(_INDEX), {f"branch {k}": f for k, f in enumerate(branches)}, operands)


def _branch(name: str, index: Array, branches: dict[str, Callable[..., PyTree]], operands: tuple[PyTree, ...]
            ) -> PyTree:
    """Return the result of the branch that a traced number chooses; `name` and the keys are the user's words."""
    def rewrite(call: Call) -> Graph:
        staged = {label: call.of(f).trace(nothing=True) for label, f in branches.items()}
        if not all(s.outputs for s in staged.values()):
            _without_results(staged.values())
        (label, first), *others = staged.items()
        for other, s in others:
            _same_result(name, label, first, other, s)
        bodies, free = _together([*staged.values()])
        inputs = [placeholder(t) for t in (ArrayType((), _INDEX), *call.types)]
        node = branching.switch(*inputs, *free, graphs=tuple(bodies), rows=(False,) * (len(call.types) + len(free)),
                                sums=(False,) * len(bodies[0].outputs))
        call.leaves = [index, *call.leaves]
        return Graph(tuple(inputs), tuple(parts(node)), out_tree=first.out_tree)

    return rewritten(rewrite, next(iter(branches.values())), operands)


def _without_results(branches: Collection[Staged]) -> None:
    """Give a zero to branches that have neither result nor effect beside those that have an effect."""
    for staged in branches:
        if any(s.outputs for s in branches):
            staged.outputs = staged.outputs or [zero()]
        else:
            _ = staged.graph  # raises the error of a function that returns None


def _is_traced(x: object) -> bool:
    """Return whether a value is known only when the program runs: a traced one, or a size of each example."""
    return isinstance(x, Array) or (isinstance(x, Size) and differs(x.dim))


def _only(branch: Callable[..., PyTree], operands: Sequence[PyTree]) -> PyTree:
    """Return the result of the branch that a plain number chooses."""
    result = branch(*operands)
    if not tracing():
        refuse_foreign((), reachable([x._node for x in optree.tree_leaves(result) if isinstance(x, Array)]))
    return result


def _functions(name: str, form: str, *branches: object) -> None:
    """Raise `TraceError` where a value stands in the place of a branch."""
    for k, f in enumerate(branches):
        if not callable(f):
            kind = f"a traced value ({f._node.type})" if isinstance(f, Array) else f"a value ({type(f).__name__})"
            raise TraceError(at_user_line(
                f"{name}: branch {k} is {kind}, where a function of the operands is needed: {form}. Between values "
                "chooses np.where(condition, a, b)."))


def _same_result(name: str, first: str, a: Staged, second: str, b: Staged) -> None:
    """Raise `ShapeError` where branches, called `first` and `second`, return different results."""
    if a.out_tree != b.out_tree:
        raise ShapeError(at_user_line(f"{name}: {first} and {second} return different structures: "
                                      f"{format_structure(a.out_tree)} and {format_structure(b.out_tree)}"))
    for n, m in zip(a.outputs, b.outputs, strict=True):
        if n.dtype != m.dtype or not guard_equal_shapes(n.shape, m.shape):
            raise ShapeError(at_user_line(f"{name}: {first} returns {n.type} where {second} returns {m.type}. "
                                          "Cast or reshape one of them."))


def _together(staged: Sequence[Staged]) -> tuple[list[Graph], list[Node]]:
    """Return the functions as graphs with the same inputs: their own, and all outer values that any of them uses."""
    held = [closed(s) for s in staged]
    free = list(dict.fromkeys(n for _, outer in held for n in outer))
    graphs = []
    for s, (graph, outer) in zip(staged, held, strict=True):
        own = graph.inputs[:len(s.inputs)]
        places = dict(zip(outer, graph.inputs[len(s.inputs):], strict=True))
        graphs.append(graph.replace(
            inputs=(*own, *(places.get(n) or placeholder(n.types[0]) for n in free)),
            names=(*graph.names[:len(own)], *(f"outer{i}" for i in range(len(free))))))
    return graphs, free


@boundary
def while_loop(test: Callable[[PyTree], PyTree], body: Callable[[PyTree], PyTree], init: PyTree) -> PyTree:
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

    Returns
    -------
    pytree of arrays
        The last state.

    Examples
    --------
    >>> mg.while_loop(lambda x: x < 100.0, lambda x: 2.0 * x, 3.0)
    np.float64(192.0)
    """

    def rewrite(call: Call) -> Graph:
        def step(types: list[ArrayType], weak: list[bool]) -> tuple[Staged, PyTree]:
            staged = call.trace(types, weak)
            return staged, staged.result

        staged, types, weak = _staged("while_loop", step, init, call.leaves, call.types)
        graphs, free = _together([call.of(test).trace(types, weak), staged])
        inputs = [placeholder(t) for t in types]
        test_graph, body_graph = (_outer_first(g, len(inputs)) for g in graphs)
        node = loops.while_(*free, *inputs, test=test_graph, body=body_graph, count=len(free))
        call.leaves = _cast(call.leaves, types)
        return Graph(tuple(inputs), tuple(parts(node)), out_tree=staged.out_tree)

    return rewritten(rewrite, body, (_with_values(init),), static=False)


def _outer_first(graph: Graph, k: int) -> Graph:
    """Return a closed graph of `k` arguments with the outer values before them."""
    return graph.replace(inputs=(*graph.inputs[k:], *graph.inputs[:k]), names=(*graph.names[k:], *graph.names[:k]))


def _staged(name: str, step: Callable[[list[ArrayType], list[bool]], tuple[Staged, PyTree]], init: PyTree,
             leaves: Sequence[object], types: Sequence[ArrayType]) -> tuple[Staged, list[ArrayType], list[bool]]:
    """Return a loop's step, staged on a state whose types it keeps; those types, and which of them are weak.

    A Python number in `init` takes the dtype that the step gives it. That may promote others, so the step is staged
    until nothing changes: dtypes only grow.

    Parameters
    ----------
    step : callable
        Stages the step on a state of such types and weakness; returns also the pytree of the next state.
    """
    tree = optree.tree_structure(init)
    numbers = list(map(is_weak, leaves))

    def staged_on(state: list[tuple[ArrayType, bool]]) -> tuple[list[tuple[ArrayType, bool]], Staged]:
        staged, result = step([t for t, _ in state], [w for _, w in state])
        if optree.tree_structure(result) != tree:
            raise ShapeError(at_user_line(f"{name}: the state goes in as {format_structure(tree)} and comes out as "
                                          f"{format_structure(optree.tree_structure(result))}"))
        ends = [(n.types[0], is_weak(x)) for n, x in zip(staged.outputs, optree.tree_leaves(result), strict=False)]
        new = [_next_type(t, w, end) if number else (t, w)
               for number, (t, w), end in zip(numbers, state, ends, strict=True)]
        for i, ((t, _), (end, number)) in enumerate(zip(new, ends, strict=True)):
            if number and t.floating and t.shape == end.shape:
                staged.outputs[i] = cast_to(staged.outputs[i], t.dtype)
            elif t != end:
                raise ShapeError(at_user_line(f"{name}: the state goes in as {t} and comes out as {end}. Shapes and "
                                              "dtypes must stay the same from step to step."))
        return new, staged

    state, staged = fixed_point(staged_on, list(zip(types, numbers, strict=True)))
    return staged, [t for t, _ in state], [w for _, w in state]


def _next_type(t: ArrayType, weak: bool, end: tuple[ArrayType, bool]) -> tuple[ArrayType, bool]:
    """Return the type of a state that began as a Python number, and whether it is weak, from those after a step."""
    after, still = end
    if weak and not still:
        return ArrayType(t.shape, after.dtype), False
    return ArrayType(t.shape, np.result_type(t.dtype, 0.0 if still and after.floating else 0 if still else after.dtype)
                     ), weak


def _cast(leaves: Sequence[object], types: Sequence[ArrayType]) -> list[object]:
    """Return the initial state of a loop with Python numbers cast to the types that they settle on."""
    return [Array(checked_cast(x, t.dtype)) if tracing() and is_weak(x) else x
            for x, t in zip(leaves, types, strict=False)]


@boundary
def scan(f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], init: PyTree, xs: PyTree = None,
         length: int | Size | None = None, reverse: bool = False) -> tuple[PyTree, PyTree]:
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

    Examples
    --------
    >>> mg.scan(lambda total, x: (total + x, total), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([0., 1., 3.]))
    """

    def rewrite(call: Call) -> Graph:
        k = optree.tree_structure(init).num_leaves
        stacks = call.types[k:]
        n = _length(length, stacks)
        slices = [ArrayType(t.shape[1:], t.dtype) for t in stacks]

        def step(carry: list[ArrayType], weak: list[bool]) -> tuple[Staged, PyTree]:
            staged = call.trace([*carry, *slices], weak + [False] * len(slices))
            if not isinstance(staged.result, tuple) or len(staged.result) != 2:
                raise TraceError(at_user_line(f"scan: {function_name(f)} must return (carry, y); y may be None"))
            return staged, staged.result[0]

        staged, carry, _ = _staged("scan", step, init, call.leaves[:k], call.types[:k])
        body, free = closed(staged)
        inputs = [placeholder(t) for t in (*carry, *stacks)]
        node = loops.scan(*free, *inputs, body=_outer_first(body, len(inputs)), counts=(len(free), k), length=n,
                          reverse=bool(reverse))
        call.leaves[:k] = _cast(call.leaves, carry)
        return Graph(tuple(inputs), tuple(parts(node)), out_tree=optree.treespec_tuple(staged.out_tree.children()))

    end: tuple[PyTree, PyTree] = rewritten(rewrite, f, (_with_values(init), xs), static=False)
    return end


def _with_values(state: PyTree) -> PyTree:
    """Return the state of a loop, its symbolic sizes as numbers that steps may change."""
    return optree.tree_map(lambda x: as_array(x) if isinstance(x, Size) else x, state)


def _length(length: int | Size | None, stacks: Sequence[ArrayType]) -> int | Dim:
    """Return the number of steps of a scan over `stacks`."""
    if not (length is None or hasattr(length, "__index__")):
        raise ShapeError(at_user_line(f"scan: length must be an integer, not {length!r}"))
    if isinstance(length, (int, np.integer)) and length < 0:
        raise ShapeError(at_user_line(f"scan: length must not be negative, got {length}"))
    sizes = [] if length is None else [operator.index(length) if isinstance(length, Array) else unwrap(length)]
    for t in stacks:
        if not t.ndim:
            raise ShapeError(at_user_line(f"scan: {t} has no axis to step along"))
        sizes.append(t.shape[0])
    if not sizes:
        raise ShapeError(at_user_line("scan: give xs or a length"))
    if not all(guard_equal(n, sizes[0]) for n in sizes):
        raise ShapeError(at_user_line(
            f"scan: lengths differ: {', '.join(map(str, sizes))}.{of_several_axes(sizes)}"))
    return sizes[0]


@boundary
def fori_loop(lower: Array | int | np.integer, upper: Array | int | np.integer,
              body: Callable[[Array, PyTree], PyTree], init: PyTree) -> PyTree:
    """Run ``state = body(i, state)`` for i from `lower` to `upper`.

    With plain ints or sizes for bounds it is a `scan`, which every derivative goes through; with traced bounds, a
    `while_loop`. A size may differ from example to example: ``mg.fori_loop(0, x.shape[0], body, init)``. An int among
    the arguments of a transform is plain; among those of a compiled function it is traced, unless it is in
    `static_argnums`.

    Parameters
    ----------
    lower, upper : int
    body : callable
        Takes an index and the state, returns the next state, of the same structure, shapes and dtypes. The dtype of the
        index yields to others, as that of Python's ints does.
    init : pytree of arrays

    Returns
    -------
    pytree of arrays
        The last state.

    Examples
    --------
    >>> mg.fori_loop(0, 5, lambda i, x: x + i, 0.0)
    np.float64(10.0)
    """
    if isinstance(lower, Array) or isinstance(upper, Array):
        _, _, state = while_loop(lambda s: s[0] < s[1], lambda s: (s[0] + 1, s[1], body(_index(s[0]), s[2])),
                                 (as_array(lower).astype(_INDEX), as_array(upper).astype(_INDEX), init))
        return state
    if isinstance(lower, Size) or isinstance(upper, Size):
        steps = arange(lower, upper)
    else:
        steps = np.arange(int(lower), max(int(upper), int(lower)))
    return scan(lambda state, i: (body(_index(i), state), None), init, steps)[0]


def _index(i: Array) -> Array:
    """Return an index as Python's loops have it."""
    return Array(i._node, weak=True)

