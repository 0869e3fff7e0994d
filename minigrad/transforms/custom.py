"""Functions with rules of the user's own: `custom_vjp`, `custom_jvp`, `primitive`, and opaque `callback`s."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import optree

from ..axes import LEADING, Declared, subscripts
from ..errors import GradError, ShapeError, TraceError, Unsupported, at_user_line, format_structure, user_frame
from ..families import elementwise
from ..graph import ArrayType, Graph, Node, PyTree, Table, full, note_read
from ..numpy.arguments import broadcast_node
from ..ops import custom as ops
from ..ops.control import parts
from ..ops.subgraph import EFFECTS
from ..primitive import Primitive, Sample, placeholder
from ..sizes import Size
from ..static import unmarked, without_static
from ..symbolic import Dim
from ..tracebacks import boundary
from ..traced_array import Array, as_array
from ..tracing import guard_equal_shapes, thread, tracing
from .closures import closed, outer_values
from .derivative_trees import derivative_leaves
from .pickling import Made, picklable
from .trace import Call, Staged, flatten_arguments, function_name, leaf_type, run

Rule = Callable[..., Any]
Derivatives = Node | list[Node | None]  # the tangent that a jvp rule returns, or the cotangents of a vjp rule


def custom_vjp(rule: Rule) -> Callable[[Callable[..., PyTree]], Callable[..., PyTree]]:
    """Give a function a reverse-mode derivative of its own; forward mode and batches follow from it.

    Parameters
    ----------
    rule : callable
        ``rule(g, out, *args)``: from the cotangent of the result, the result, and the arguments, one cotangent per
        argument, as a tuple. An entry is in the pytree of its argument, with None for zeros in the place of any part.
        It must be linear in `g`. It may call the function itself.

    Returns
    -------
    callable
        A decorator of a function of pytrees of arrays.

    Raises
    ------
    GradError
        During the trace, if the results of the rule do not fit the arguments, or if a derivative is taken with respect
        to a value of the outer function, for which the rule has no slope.

    Examples
    --------
    >>> @mg.custom_vjp(lambda g, out, x: (g * np.sign(x),))  # a slope that clips
    ... def clipped(x):
    ...     return np.where(abs(x) < 1, x, np.sign(x))
    """
    return functools.partial(_decorated, rule=rule, reverse=True)


def custom_jvp(rule: Rule) -> Callable[[Callable[..., PyTree]], Callable[..., PyTree]]:
    """Give a function a forward-mode derivative of its own; reverse mode and batches follow from it.

    Parameters
    ----------
    rule : callable
        ``rule(tangents, out, *args)``: from a tuple with the tangent of each argument (None for arguments
        that are not floating), the result, and the arguments, the tangent of the result.
        It must be linear in the tangents.

    Returns
    -------
    callable
        A decorator of a function of pytrees of arrays.

    Examples
    --------
    >>> @mg.custom_jvp(lambda tangents, out, x: tangents[0] / (1.0 + np.exp(-x)))
    ... def softplus(x):
    ...     return np.logaddexp(x, 0.0)
    >>> mg.grad(softplus)(0.0)
    np.float64(0.5)
    """
    return functools.partial(_decorated, rule=rule, reverse=False)


@picklable
def _decorated(f: Callable[..., PyTree], rule: Rule, reverse: bool) -> Callable[..., PyTree]:
    @functools.wraps(f)
    def ruled(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if not tracing():
            return f(*args, **kwargs)
        if kwargs:
            bound = inspect.signature(f).bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.kwargs:
                raise TraceError(at_user_line(f"{function_name(f)}: a function with rules of its own takes positional "
                                              "arguments"))
            args = bound.args
        call = Call(f, args)
        staged = call.trace()
        name = function_name(f)

        def of_rule() -> Staged:
            with _tracing_rule_of(ruled):
                return _trace_rule(rule, staged, reverse)

        outer = outer_values(staged)

        def later() -> Graph:
            if ruled in thread.trace.ruled:
                raise GradError(at_user_line(f"the rule of {name} takes the derivative of {name}, which is what the "
                                             "rule is to say"))
            return _rule_graph(of_rule(), staged, outer)

        if ruled in thread.trace.ruled:
            # The rule calls the function itself: that call's rule is traced if its derivative is taken.
            graph: Graph | ops.Later = ops.Later(name, later)
        else:
            traced = of_rule()
            outer = list(dict.fromkeys([*outer, *outer_values(traced)]))
            graph = _rule_graph(traced, staged, outer)
        body, _ = closed(staged, outer)
        node = ops.custom(*staged.inputs, *outer, graph=body, vjp=graph if reverse else None,
                          jvp=None if reverse else graph)
        return run(staged.graph.replace(outputs=tuple(parts(node))), call.leaves)

    return ruled


@contextmanager
def _tracing_rule_of(function: Callable[..., Any]) -> Iterator[None]:
    trace = thread.trace
    before, trace.ruled = trace.ruled, (*trace.ruled, function)
    try:
        yield
    finally:
        trace.ruled = before


def _rule_graph(traced: Staged, staged: Staged, outer: Sequence[Node]) -> Graph:
    """Return a rule as a graph that takes the values `outer` of the traces around it, too."""
    name, used = staged.call.name, outer_values(traced)
    if any(n.serial >= staged.since for n in used):
        raise TraceError(at_user_line(f"the rule of {name} uses a value that {name} computes. Return it as a result: "
                                      "the rule is given the results"))
    if not set(used) <= set(outer):
        raise TraceError(at_user_line(f"the rule of {name}, which calls it, uses a traced value of the function around "
                                      "it. Pass it as an argument, so that the rule can speak of it"))
    return closed(traced, outer)[0]


def _trace_rule(rule: Rule, staged: Staged, reverse: bool) -> Staged:
    """Trace a rule on leaves: of the results' cotangents or the arguments' tangents, the results, and the arguments."""
    call = staged.call
    results = staged.outputs[:staged.out_tree.num_leaves]
    sources, targets = (results, staged.inputs) if reverse else (staged.inputs, results)
    tree = staged.out_tree if reverse else call.tree
    types = [n.types[0] for n in (*(n for n in sources if n.type.floating), *staged.outputs, *staged.inputs)]
    n = len(staged.outputs)
    k = len(types) - n - len(staged.inputs)

    def flat(*leaves: Array) -> list[Array]:
        derivatives = iter(leaves[:k])
        first: Any = optree.tree_unflatten(tree, [next(derivatives) if x.type.floating else None for x in sources])
        out = optree.tree_unflatten(staged.out_tree, leaves[k:k + len(results)])
        args: PyTree = optree.tree_unflatten(call.tree, leaves[k + n:])[0]
        own = unmarked(args)
        if reverse:
            values, names = _cotangents(staged, rule(first, out, *own), args), call.names
        else:
            values = _leaves(staged, rule(without_static(first[0]), out, *own), out)
            names = tuple(f"result {i}" for i in range(n))
        return [_fitting(staged, v, like, name) for v, like, name in zip(values, targets, names, strict=True)
                if like.type.floating]

    return Call(flat, tuple(types)).trace()


def _cotangents(staged: Staged, back: Any, args: Sequence[PyTree]) -> list[object]:
    """Return the leaves of the cotangents that a vjp rule returned."""
    if not isinstance(back, (tuple, list)) or len(back) != len(args):
        raise GradError(at_user_line(f"the vjp rule of {staged.call.name} must return a tuple with one cotangent per "
                                     f"argument, {len(args)} of them"))
    return [leaf for value, arg in zip(back, args, strict=True) for leaf in _leaves(staged, value, arg)]


def _leaves(staged: Staged, value: PyTree, like: PyTree) -> list[object]:
    """Return the leaves of a derivative in the pytree of `like`; a leaf or branch that is None gives None."""
    leaves = derivative_leaves(value, like)
    if leaves is None:
        raise GradError(at_user_line(f"the rule of {staged.call.name} returned a derivative of the structure "
                                     f"{format_structure(optree.tree_structure(value))}, expected "
                                     f"{format_structure(optree.tree_structure(like))}"))
    return leaves


def _fitting(staged: Staged, value: object, like: Node, name: str) -> Array:
    if value is None:
        return Array(full(0, like.shape, like.dtype))
    x = as_array(value)
    if x._weak and not x.ndim:
        return Array(broadcast_node(as_array(x.astype(like.dtype))._node, like.shape))
    if x.dtype != like.dtype or not guard_equal_shapes(x._node.shape, like.shape):
        raise GradError(at_user_line(f"the rule of {staged.call.name} returned {x._node.type} as the derivative "
                                     f"of {name}, which is {like.type}"))
    return x


# -- opaque functions --------------------------------------------------------------------------------------


@boundary
def callback(function: Callable[..., PyTree], result: PyTree, *args: PyTree, vectorized: bool = False) -> PyTree:
    """Call a Python function on ordinary arrays while the program runs.

    Parameters
    ----------
    function : callable
        Takes and returns pytrees of ndarrays. It must depend on its arguments alone: equal calls may be made once. With
        a `result` of None, the value that it returns is ignored.
        The arrays that it is given are read-only copies, which it may keep.
    result : pytree of types or arrays
        The types of its results: ``mg.f64[3]``, or an array of that shape and dtype. None: the function is called for
        its effect, such as a log, at every run and for every example of a batch, in order.
    *args : pytrees of arrays
    vectorized : bool
        Whether it takes a batch axis in front of all its arguments, and returns results with one. Otherwise `vmap`
        makes it a loop over the examples, which the graph shows.

    Returns
    -------
    pytree of arrays, or None
        Of the types of `result`.

    Raises
    ------
    ShapeError, DtypeError
        When the program runs, if the function returns anything else than stated.
    Unsupported
        If a derivative is asked for: give it one with `custom_vjp` or `custom_jvp`.

    Examples
    --------
    >>> def count(x):
    ...     return np.array(np.unique(x).size)
    >>> f = mg.compile(lambda x: mg.callback(count, mg.i64[()], x) + 1)
    >>> f(np.array([3.0, 3.0, 5.0]))
    np.int64(3)
    """
    whole_args: PyTree = args
    given: PyTree = optree.tree_map(lambda x: as_array(x) if isinstance(x, Size) else x, whole_args)
    leaves, whole, *_ = flatten_arguments(function, given, {})
    tree = whole.child(0)
    if result is None:
        return _for_effect(_Flat(function, tree, None), leaves)
    specs, out_tree = optree.tree_flatten(result)

    def label(i: int) -> str:
        return f"result {i} of callback({function_name(function)})"

    types = [leaf_type(s, functools.partial(label, i)) for i, s in enumerate(specs)]
    stated = tuple((t.shape, t.dtype) for t in types)

    flat = _Flat(function, tree, out_tree)
    if not tracing():
        return optree.tree_unflatten(out_tree, ops.callback.eval(
            np, *map(np.asarray, leaves), function=ops.Opaque(flat), result=stated, batches=(), vectorized=False))
    node = ops.callback(*(as_array(x)._node for x in leaves), function=ops.Opaque(flat), result=stated, batches=(),
                        vectorized=bool(vectorized))
    return optree.tree_unflatten(out_tree, [Array(p) for p in parts(node)])


def _for_effect(function: _Flat, leaves: Sequence[object]) -> None:
    """Call a function when the program runs, or now where none is traced."""
    opaque = ops.Opaque(function)
    if not tracing():
        ops.effect.eval(np, *map(np.asarray, leaves), function=opaque, batches=())
        return
    operands = leaves or [0]  # by one, an effect waits for an earlier one
    node = ops.effect(*(as_array(x)._node for x in operands), function=opaque, batches=(), order=(next(EFFECTS),))
    note_read()  # the program keeps it as it keeps checks of indices
    Array(node)  # a value of the trace


class _Flat:
    """A function of pytrees as one of their leaves."""

    def __init__(self, function: Callable[..., PyTree], tree: optree.PyTreeSpec, out_tree: optree.PyTreeSpec | None):
        self._function, self._tree, self._out_tree = function, tree, out_tree
        self.__name__ = function_name(function)

    def __call__(self, *arrays: np.ndarray) -> list[Any]:
        args: PyTree = unmarked(optree.tree_unflatten(self._tree, arrays[:self._tree.num_leaves]))
        result = self._function(*args)
        if self._out_tree is None:
            return []
        values, tree = optree.tree_flatten(result)
        if tree != self._out_tree:
            raise ShapeError(f"callback {self.__name__}: it returned the structure {format_structure(tree)}, and was "
                             f"stated to return {format_structure(self._out_tree)}")
        return values


# -- new primitives ----------------------------------------------------------------------------------------


def _on_nodes(rule: Rule | None) -> Rule | None:
    """Return a derivative rule of arrays as one of nodes."""
    if rule is None:
        return None

    def nodes(seed: Node | Sequence[Node | None], out: Node, *xs: Node, **params: Any) -> Derivatives:
        derivatives = rule(Array(seed) if isinstance(seed, Node) else tuple(t and Array(t) for t in seed),
                           Array(out), *map(Array, xs), **params)
        if isinstance(derivatives, (tuple, list)):
            return [None if v is None else as_array(v)._node for v in derivatives]
        return as_array(derivatives)._node

    return nodes


def _batch_on_nodes(batch: Rule) -> Rule:
    """Return a batch rule of arrays as one of nodes."""

    def nodes(size: int | Dim, mapped: Sequence[bool], *xs: Node, **params: Any) -> Node:
        return as_array(batch(size, mapped, *map(Array, xs), **params))._node

    return nodes


def _transposed_vjp(name: str, back: Rule) -> Rule:
    """Return the jvp rule that a vjp rule implies."""

    def push(ts: Sequence[Node | None], out: Node, *xs: Node, **params: Any) -> Node:
        g = placeholder(out.types[0])
        pairs = [(b, t) for b, t in zip(back(g, out, *xs, **params), ts, strict=True)
                 if b is not None and t is not None]
        return ops.transpose(name, [b for b, _ in pairs], [t for _, t in pairs], [g])[0]

    return push


def _transposed_jvp(name: str, push: Rule) -> Rule:
    """Return the vjp rule that a jvp rule implies."""

    def back(g: Node, out: Node, *xs: Node, **params: Any) -> list[Node | None]:
        ts = [placeholder(x.types[0]) if x.type.floating else None for x in xs]
        moving = [t for t in ts if t is not None]
        cotangents = iter(ops.transpose(name, [push(ts, out, *xs, **params)], [g], moving))
        return [None if t is None else next(cotangents) for t in ts]

    return back


@boundary
def primitive(name: str, eval: Callable[..., Any], result: Callable[..., ArrayType] | None = None,
              vjp: Rule | None = None, jvp: Rule | None = None, batch: Rule | str | None = None,
              samples: Callable[[], list[Sample]] = list, axes: Declared | str | None = None,
              linear: Literal["", "jointly", "separately", "first"] = "") -> Callable[..., Any]:
    """Declare a new operation, with all its rules in one place, and return the function that applies it.

    Parameters
    ----------
    name : str
        How graphs call it; it must be new.
    eval : callable
        ``eval(xp, *arrays, **params)`` computes it, in the array namespace `xp`.
    result : callable, optional
        ``result(*types, **params)`` returns the type of the result from those of the operands, or raises. Without it
        the operation is elementwise: operands of equal shapes and dtypes, and a result of the same.
    vjp : callable, optional
        ``vjp(g, out, *operands, **params)`` returns one cotangent, or None, per operand.
    jvp : callable, optional
        ``jvp(tangents, out, *operands, **params)`` returns the tangent; tangents that are zero come as None. Of `vjp`
        and `jvp` one is enough.
    batch : callable or "leading", optional
        ``batch(size, mapped, *operands, **params)`` computes it where the operands in `mapped` have one more axis, in
        front. ``"leading"``: the operation itself does so, if all operands have it. An elementwise one needs none.
    samples : callable, optional
        Returns samples (`Sample`) on which it is tested.
    axes : str or Declared, optional
        The axis rule, in the notation of `minigrad.axes`: an operation along the last axis is ``"... i! -> ... i!"``.
        It implies the batch, ragged batches included, and tells which microbatches are legal.
    linear : {"", "jointly", "separately", "first"}
        Linear in all operands at once, in each while the others stay, or in the first.

    Returns
    -------
    callable
        ``f(*operands, **params)``, of traced and of ordinary arrays; `params` are static.

    Notes
    -----
    Rules are written with NumPy's functions, on traced values. `check_primitive` checks them.

    Examples
    --------
    >>> cube = mg.primitive("test_cube", lambda xp, x: x**3, vjp=lambda g, out, x: (3.0 * x**2 * g,))
    >>> mg.grad(cube)(2.0)
    np.float64(12.0)
    """
    Table.complete()  # the name must differ from those of all operations
    back, push = _on_nodes(vjp), _on_nodes(jvp)
    none = Unsupported("it was declared without vjp= and jvp=")
    if back is not None and push is None:
        push = _transposed_vjp(name, back)
    elif push is not None and back is None:
        back = _transposed_jvp(name, push)
    if result is None:
        arity = sum(p.kind is not p.KEYWORD_ONLY for p in inspect.signature(eval).parameters.values()) - 1
        prim = elementwise(name, eval, "", arity=arity,
                           vjp=back or none, jvp=push or none, domain="biuf", linear=linear, samples=samples,
                           params=None, raises="biuf", key=ops.key_of_any)
    else:
        declared = subscripts(axes) if isinstance(axes, str) else LEADING if batch == "leading" else axes
        rule: Rule | Unsupported | None = None  # None: the axis rule implies it
        if batch is None and (declared is None or declared.placed is None):
            rule = Unsupported("it was declared without batch=, and without axes= that imply it")
        elif callable(batch):
            rule = _batch_on_nodes(batch)
        prim = Primitive(name, result, eval, back or none, push or none, rule, axes=declared, linear=linear,
                         samples=samples, params=None, raises="biuf", key=ops.key_of_any)

    def apply(*operands: Any, **params: Any) -> Any:
        nodes = [as_array(x)._node for x in operands]
        if tracing() or any(isinstance(x, Array) for x in operands):
            return Array(prim(*nodes, **params))
        prim.type(*(n.type for n in nodes), **params)
        return prim.eval(np, *map(np.asarray, operands), **params)

    apply.__name__ = apply.__qualname__ = name
    if (frame := user_frame()) is not None:
        apply.__module__ = frame.f_globals.get("__name__", apply.__module__)
    vars(apply)["primitive"] = prim
    _APPLIED[name] = Made(apply, _applied, (name, apply.__module__), {})
    return _APPLIED[name]


_APPLIED: dict[str, Made] = {}


def _applied(name: str, module: str) -> Made:
    """Return the function that applies a primitive, which `module` declares."""
    if name not in _APPLIED:
        importlib.import_module(module)
    return _APPLIED[name]
