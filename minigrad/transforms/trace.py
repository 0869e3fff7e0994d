"""Tracing: from a Python function on pytrees to nodes, and back to values.

Every transform stages its function on fresh inputs, rewrites the nodes, and then either runs them (at
top level) or puts the caller's nodes in the place of the inputs (inside another trace). Values of an
outer trace in the function's closure are nodes like any other: traces need no stack of levels.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import optree

from .. import interpreters
from ..errors import DtypeError, MinigradError, TraceError, at_user_line, format_location
from ..graph import CALLS, ArrayType, Graph, Node, PyTree, dtype_of, moment, reachable
from ..immutable import Record, cached_property
from ..primitive import adopt, fresh_inputs, placeholder
from ..traced_array import Array, as_array, number_dtype
from ..tracing import LOOP_NODES, Guards, Trace, new_trace, tracing
from .array_namespace import is_on_device, namespace, own
from .pickling import picklable

if TYPE_CHECKING:
    from typing import Concatenate, TypeGuard

    from .pickling import Maker, P

# Filled by modules above, which plug into tracing. A keeper returns the outputs of a program tied to the effects of
# nodes that the program drops. A watcher is told of a function before it is traced at top level, and returns a function
# that is told of the outputs.
KEEPERS: list[Callable[[Sequence[Node], Sequence[Node], Sequence[Node], int], list[Node]]] = []
WATCHERS: list[Callable[[Callable[..., PyTree]], Callable[[Sequence[Node]], None]]] = []


class Flat(NamedTuple):
    """The arguments of a function: the leaves of ``(args, kwargs)`` that are arrays or numbers, and all else."""

    leaves: list[PyTree]
    tree: optree.PyTreeSpec
    types: list[ArrayType]
    has_static: bool = False  # whether the tree has `Static` nodes
    has_integers: bool = True  # whether a leaf may be an integer of Python or NumPy


# Functions of `static_arguments`: "apart" takes static leaves apart, "unmarked" puts their values back, "refuse" raises
# an error where an argument that is differentiated has some.
STATIC: dict[str, Callable[..., PyTree]] = {}

# -- leaves ------------------------------------------------------------------------------------------------


def leaf_type(x: object, name: Callable[[], str]) -> ArrayType:
    """Return the type of a leaf of a function's arguments.

    Raises
    ------
    DtypeError
        If it is not an array; the error has the leaf's `name`.
    """
    if isinstance(x, Array):
        return x._node.types[0]
    if isinstance(x, ArrayType):
        return x

    def whose() -> str:
        return f"argument {name()}, a {type(x).__name__}: "

    if isinstance(x, (np.ndarray, np.generic)):
        other = type(x) is not np.ndarray and {c.__name__ for c in type(x).__mro__} & {"MaskedArray", "matrix"}
        if other:  # their arithmetic is another one
            raise DtypeError(at_user_line(f"{whose()}what a {other.pop()} computes would be lost. Pass np.asarray(x), "
                                          "and a mask as an argument of its own."))
        return ArrayType(x.shape, dtype_of(x.dtype, whose))
    if is_on_device(x):
        interface = x.__cuda_array_interface__
        return ArrayType(interface["shape"], dtype_of(np.dtype(interface["typestr"]), whose))
    if hasattr(x, "__array__") and not isinstance(x, type):
        value = np.asarray(x)
        return ArrayType(value.shape, dtype_of(value.dtype, whose))
    if isinstance(x, (bool, int, float, complex, str, bytes)):
        if isinstance(x, int):
            number_dtype(x)
        return ArrayType((), dtype_of(np.asarray(x).dtype, whose))
    raise DtypeError(at_user_line(
        f"argument {name()} is a {type(x).__name__}, not an array. Pytrees of arrays and numbers can be traced, and "
        "values that can be hashed pass as static ones; bind anything else first, with functools.partial or a lambda."
        + (" Of a matrix of SciPy, pass mg.Sparse.from_scipy(A), the same for all examples; matrices that differ from "
           "example to example are made within the function, as mg.Sparse(data, row, col, shape)."
           if hasattr(x, "tocoo") else "")
        + (" A dataclass becomes a pytree by mg.register_dataclass." if dataclasses.is_dataclass(x) else "")))


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(f: Callable[..., PyTree]) -> Sequence[inspect.Parameter]:
    """Return the parameters of a function; none where they are unknown."""
    try:
        return list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return ()


def parameter_names(f: Callable[..., PyTree]) -> list[str]:
    """Return the names of the parameters that take positional arguments."""
    return [p.name for p in parameters_of(f) if p.kind in _POSITIONAL]


def argument_names(f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> tuple[str, ...]:
    """Return a name for each leaf of ``(args, kwargs)``: ``w``, or ``params['W']`` within a pytree."""
    parameters = parameters_of(f)
    own = [p.name for p in parameters if p.kind in _POSITIONAL]
    variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "arg")
    tree: PyTree = (args, kwargs)

    names = []
    for which, first, *path in optree.tree_paths(tree):
        positional = own[first:first + 1] or [f"{variadic}{first - len(own)}"] if which == 0 else [str(first)]
        names.append(positional[0] + "".join(f"[{p!r}]" for p in path))
    return tuple(names)


def function_name(f: Callable[..., PyTree]) -> str:
    """Return the name that graphs of `f` carry."""
    name: str = getattr(f, "__name__", type(f).__name__)
    return name if name != "<lambda>" else "lambda_"


# -- staging -----------------------------------------------------------------------------------------------


def flatten_arguments(f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree],
                      fixed: Collection[int] = (), static: bool = True) -> Flat:
    """Return the leaves of the arguments that are arrays or numbers, their pytree, and their types.

    All other leaves are static nodes of the pytree, and so are, of the arrays and numbers, those at the positions
    `fixed`. Without `static`, there are none.
    """
    tree: PyTree = (args, kwargs)
    leaves: list[PyTree]
    leaves, spec = optree.tree_flatten(tree)
    kinds = {*map(type, leaves)}
    has_static = static and (bool(fixed) or not kinds <= _PLAIN)
    if has_static:
        leaves, spec, has_static = STATIC["apart"](f, tree, leaves, spec, fixed)
        tree = optree.tree_unflatten(spec, leaves)
    types = [leaf_type(x, functools.partial(lambda i: argument_names(f, *tree)[i], i)) for i, x in enumerate(leaves)]
    return Flat(leaves, spec, types, has_static, not kinds <= _FLOATING)


_FLOATING = frozenset({Array, np.ndarray, float})
_PLAIN = _FLOATING | {int}  # the types of leaves that are arrays or numbers at first sight


class Call:
    """A call of a function that a transform rewrites.

    A rewrite may change `leaves`, the values of the graph's inputs: first those of ``(args, kwargs)``, in which
    static values are marked. Without `static`, all leaves are arrays, as the state of a loop is.
    """

    def __init__(self, f: Callable[..., PyTree], args: tuple[PyTree, ...], kwargs: dict[str, PyTree] | None = None,
                 flat: Flat | None = None, fixed: Collection[int] = (), static: bool = True):
        self.f, self.args, self.kwargs, self.static = f, args, kwargs or {}, static
        self.flat = flat or flatten_arguments(f, args, self.kwargs, fixed, static)
        self.leaves, self.tree, self.types, self.has_static, _ = self.flat
        if self.has_static:
            whole: PyTree = optree.tree_unflatten(self.tree, self.leaves)
            self.args, self.kwargs = whole

    @property
    def name(self) -> str:
        return function_name(self.f)

    def of(self, f: Callable[..., PyTree]) -> Call:
        """Return the call of another function with these arguments."""
        return Call(f, self.args, self.kwargs, self.flat._replace(leaves=self.leaves), static=self.static)

    def parameters(self) -> Sequence[str]:
        """Return the names of the parameters that take positional arguments."""
        return parameter_names(self.f)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return argument_names(self.f, self.args, self.kwargs)

    @cached_property
    def inputs(self) -> list[Node]:
        """An input for each leaf; a traced leaf of an outer trace is its own input."""
        return [x._node if tracing() and isinstance(x, Array) else placeholder(t)
                for x, t in zip(self.leaves, self.types, strict=True)]

    def trace(self, types: list[ArrayType] | None = None, weak: Sequence[bool] | None = None,
              guards: Guards | None = None, nothing: bool = False) -> Staged:
        """Trace the function on fresh inputs of the arguments' types, or of others.

        `weak` says which inputs give way to other dtypes, as Python numbers do; without it, those that are such.
        Without `guards` of its own, the trace records its guards in those of the trace around it.
        """
        weak = list(map(is_weak, self.leaves)) if weak is None else weak
        since = moment()
        inputs = fresh_inputs(types or self.types)
        arrays: list[PyTree] = [Array(n, weak=w) for n, w in zip(inputs, weak, strict=True)]
        has_integers = self.static and self.flat.has_integers
        if guards is None and has_integers:  # the trace serves this call alone
            arrays = [x if isinstance(x, (int, np.integer)) else a for x, a in zip(self.leaves, arrays, strict=True)]
        watching = [] if tracing() else [watch(self.f) for watch in WATCHERS]
        traced: PyTree = optree.tree_unflatten(self.tree, arrays)
        if self.has_static:
            traced = STATIC["unmarked"](traced)
        with new_trace(guards) as running:
            if self.static and (running.integers or (guards is not None and has_integers)):
                self._note_integers(running, inputs, guards)
            result = self.f(*traced[0], **traced[1])
            outputs, out_tree = flatten_result(self.f, result)
            outputs = kept(outputs, running.values or [], inputs, since)
            if not running.literal and moment() - since >= LOOP_NODES:
                outputs = CALLS["shorter"](outputs, since)
        for seen in watching:
            seen(outputs)
        return Staged(self, inputs, result, outputs, out_tree, since, nothing)

    def _note_integers(self, running: Trace, inputs: Sequence[Node], guards: Guards | None) -> None:
        """Enter the traced integers among the arguments, which the function may need as numbers."""
        known: dict[Node, Callable[[], int | Node]] = {}
        for i, (x, node) in enumerate(zip(self.leaves, inputs, strict=True)):
            if guards is not None and isinstance(x, (int, np.integer)):
                known[node] = functools.partial(guards.integer, i, int(x))
            elif type(x) is Array and not x.ndim and x.dtype.kind in "iu":
                known[node] = functools.partial(operator.attrgetter("_node"), x)
        if known:
            running.integers = {**running.integers, **known}


class Staged(Record):
    """A function, traced on fresh inputs."""

    call: Call
    inputs: list[Node]  # one per leaf of the arguments, of the type that the function saw
    result: PyTree  # as the function returned it, with `Array` leaves
    outputs: list[Node]  # without results, a zero that waits for the effects, if any
    out_tree: optree.PyTreeSpec
    since: int  # nodes with smaller serial numbers were made before the function was traced
    nothing: bool  # whether the function may return None, if it has an effect

    @property
    def scalars(self) -> tuple[bool, ...]:
        """Which leaves of the result are Python numbers where the function runs on its own."""
        return tuple(map(is_weak, optree.tree_leaves(self.result))) or (False,) * len(self.outputs)

    @property
    def graph(self) -> Graph:
        """The function as a graph, with names that are computed on demand."""
        if self.result is None and not (self.nothing and self.outputs):
            raise TraceError(f"{_defined(self.call.f)}: {self.call.name} returned None. Did you forget `return`?")
        return Graph(tuple(self.inputs), tuple(self.outputs), lambda: self.call.names, in_tree=self.call.tree,
                     out_tree=self.out_tree, name=self.call.name)


def transform(maker: Callable[Concatenate[Callable[..., PyTree], P], Callable[[Call], Graph]]
              ) -> Maker[P, Callable[..., PyTree]]:
    """Return a transform of functions, of the rewrite of a call that `maker` returns.

    ``maker(f, ...)`` returns a function from a `Call` of `f` to the `Graph` that computes the result. The transformed
    function runs that graph on the leaves of its arguments; inside a trace, it continues the trace with it.
    """

    @picklable  # type: ignore[arg-type]  # mypy: P of a wrapped function
    @functools.wraps(maker)
    def make(f: Callable[..., PyTree], *args: P.args, **kwargs: P.kwargs) -> Callable[..., PyTree]:
        rewrite = maker(f, *args, **kwargs)

        @functools.wraps(f)
        def transformed(*args: PyTree, **kwargs: PyTree) -> PyTree:
            return rewritten(rewrite, f, args, kwargs)

        vars(transformed).update(vars(rewrite))
        return transformed

    return make


def rewritten(rewrite: Callable[[Call], Graph], f: Callable[..., PyTree], args: tuple[PyTree, ...],
              kwargs: dict[str, PyTree] | None = None, static: bool = True) -> PyTree:
    """Return the result of a call of `f`, rewritten; inside a trace, continue the trace with it."""
    call = Call(f, args, kwargs, static=static)
    graph = rewrite(call).replace(names=lambda: argument_names(f, call.args, call.kwargs))
    return run(graph, call.leaves)


def kept(outputs: Sequence[Node], dropped: Sequence[Node], inputs: Sequence[Node], since: int = -1) -> list[Node]:
    """Return the outputs of a program of `inputs`, tied to the effects of nodes `dropped`, of those made after `since`.

    So the program refuses all that its function refuses.
    """
    for keep in KEEPERS:
        outputs = keep(outputs, dropped, inputs, since)
    return list(outputs)


def is_weak(x: object) -> TypeGuard[Array | int | float]:
    """Return whether the dtype of `x` gives way to others, as that of a Python number does (NEP 50)."""
    return x._weak if isinstance(x, Array) else isinstance(x, (int, float)) and not isinstance(x, (bool, np.generic))


def flatten_result(f: Callable[..., PyTree], result: PyTree) -> tuple[list[Node], optree.PyTreeSpec]:
    """Return the nodes and the pytree of a traced function's result."""
    leaves, tree = optree.tree_flatten(result)
    try:
        return [as_array(x)._node for x in leaves], tree
    except MinigradError as error:
        raise DtypeError(f"{_defined(f)}: {function_name(f)} returned a leaf that is not an array: {error}") from None


def _defined(f: Callable[..., PyTree]) -> str:
    code = getattr(inspect.unwrap(f), "__code__", None)
    return format_location((code.co_filename, code.co_firstlineno) if code else None)


def run(graph: Graph, leaves: Sequence[object]) -> PyTree:
    """Run a graph on `leaves`; inside a trace, continue the trace with it instead."""
    if tracing():
        new = {i: n for i, x in zip(graph.inputs, leaves, strict=True) if (n := as_array(x)._node) is not i}
        values: list[PyTree] = [Array(n) for n in interpreters.substitute(graph.outputs, new)]
    else:
        refuse_foreign(graph.inputs, [*graph.nodes, *reachable(x._node for x in leaves if isinstance(x, Array))])
        if types := [x for x in leaves if isinstance(x, ArrayType)]:
            raise TraceError(at_user_line(f"a type ({types[0]}) where an array is needed: only mg.trace(f)(...) and "
                                          "mg.compile(f).build(...) take types"))
        xp = namespace(leaves)
        leaves = leaves if xp is np else list(map(adopt, leaves))
        arrays = [xp.asarray(x, dtype=i.dtype) for x, i in zip(leaves, graph.inputs, strict=True)]
        values = interpreters.evaluate(CALLS["order_effects"](graph), arrays, xp=xp)
        values = own(values, arrays)
    assert graph.out_tree is not None
    return optree.tree_unflatten(graph.out_tree, values[:graph.out_tree.num_leaves])


def refuse_foreign(inputs: Sequence[Node], nodes: Iterable[Node]) -> None:
    """Raise `TraceError` if `nodes`, all that a value depends on, have an input of a trace that is over."""
    mine = set(inputs)
    for node in nodes:
        if node.prim.name == "input" and node not in mine:
            raise TraceError(at_user_line(
                f"a traced value ({node.type}) is used outside the function that it was traced in. Return it from that "
                "function; do not keep it in a variable, a list or an attribute."))
