"""The program of a batch in three: before the parts, of one part, and after the parts."""

from __future__ import annotations

import functools
import operator
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, Protocol, cast

import numpy as np
import optree
from numpy.typing import ArrayLike

from .. import backends, interpreters
from ..argument_sizes import argument_sizes
from ..compiler import Entry
from ..errors import BatchError, MinigradError, ShapeError, at_user_line, format_location
from ..graph import ArrayType, Graph, InAxes, Node, PyTree, held_graphs, reachable
from ..immutable import cached_property
from ..ops.accumulators import Chains, accumulator
from ..ops.constants import proj
from ..ops.control import chunked, section_of
from ..ops.cuts import Span, along, spans_between, symbol_of
from ..ops.subgraph import part
from ..primitive import placeholder
from ..ragged.batch import Batch, is_batch
from ..static import unmarked
from ..symbolic import Dim, Symbol, value
from ..transforms.arguments_by_name import argument_axes
from ..transforms.fixed_numbers import Arguments, FixedNumbers, kind_of_leaf
from ..transforms.graph_forms import prefix
from ..transforms.microbatch import Positions, in_passes
from ..transforms.static_arguments import bound_static
from ..transforms.trace import Flat, argument_names, function_name, is_weak, parameter_names
from .combining import Combining
from .derived import Derivation, Kind

_BOOL = np.dtype(bool)
_REMEMBERED = 256  # types of arguments
Values = list[np.ndarray]


class Program:
    """A graph on some of the leaves of the arguments, built on first use."""

    def __init__(self, graph: Graph, numbers: Sequence[bool] = ()):
        used = set(reachable(graph.outputs))
        self._graph = graph
        self.reads = [k for k, n in enumerate(graph.inputs) if n in used]  # the inputs that the outputs need
        kept = graph.replace(inputs=tuple(graph.inputs[k] for k in self.reads),
                             names=tuple(graph.names[k] for k in self.reads), in_tree=None)
        self.entry = entry_of(kept, numbers)

    def of(self, outputs: Sequence[int]) -> Program:
        """Return the program of some of the outputs, from the same inputs."""
        return Program(self._graph.replace(outputs=tuple(self._graph.outputs[k] for k in outputs)))

    def __call__(self, values: Sequence[np.ndarray], sizes: Mapping[Symbol, int]) -> Values:
        """Return the outputs, from the values of all inputs."""
        if not self.entry.graph.outputs:
            return []
        arrays = [np.asarray(values[k], n.dtype) for k, n in zip(self.reads, self.entry.graph.inputs, strict=True)]
        results: Values = self.entry.program(arrays, sizes)
        return results


def entry_of(graph: Graph, numbers: Sequence[bool] = ()) -> Entry:
    """Return a graph as a program for the backend in use."""
    flags = tuple(numbers) or (False,) * len(graph.outputs)
    return Entry(graph, flags, (), backends.chosen(backends.AUTO), (), {})


class Sized(Protocol):
    """An array, or a section of a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class PartProgram(NamedTuple):
    """The program of one part, as it is sent to workers.

    Attributes
    ----------
    entry : Entry
    in_axes, out_axes : tuple of int or None
        The axis of each operand and result that has rows.
    places : tuple of (int, int)
        An operand and its axis with the examples; then those with each ragged axis.
    counts : tuple of int
        The operands that count the rows of each example along an axis that no operand has. A last input of the graph
        for each of them tells its size.
    """

    entry: Entry
    in_axes: tuple[int | None, ...]
    out_axes: tuple[int | None, ...]
    places: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, node: Node) -> PartProgram:
        """Return the program of a part of a node of `chunked`."""
        p = node.params
        graph: Graph = p["graph"]
        places: dict[int | Dim, tuple[int, int]] = {}
        for k, (axis, n) in enumerate(zip(p["in_axes"], graph.inputs, strict=True)):
            if axis is not None:
                places.setdefault(n.shape[axis], (k, axis))
        unknown = {k: own for k, (own, _) in enumerate(p["packed"]) if own not in places}
        places |= {own: (len(graph.inputs) + k, 0) for k, own in enumerate(unknown.values())}
        graph = graph.replace(inputs=(*graph.inputs, *(placeholder(ArrayType((n,), _BOOL)) for n in unknown.values())),
                              names=(*graph.names, *(f"rows{k}" for k in unknown)), in_tree=None)
        return cls(entry_of(graph), p["in_axes"], p["out_axes"],
                   tuple(places[n] for n in (p["dim"], *(own for own, _ in p["packed"]))), tuple(unknown))

    @property
    def sizes(self) -> list[Dim]:
        """The number of examples of a part, and that of rows along each ragged axis, of this process's copy."""
        return [cast(Dim, self.entry.graph.inputs[k].shape[axis]) for k, axis in self.places]

    def examples(self, operands: Sequence[Sized]) -> int:
        """Return the number of examples of a part."""
        operand, axis = self.places[0]
        return operands[operand].shape[axis]

    @property
    def ready_order(self) -> list[int]:
        """The results in the order in which the program writes them; none if it does not tell."""
        return self.entry.program.ready_order if isinstance(self.entry.program, backends.Announcing) else []

    def run(self, operands: Sequence[np.ndarray], first: int, ready: backends.Ready | None = None) -> Values:
        """Return the results of a part whose examples begin with `first` of the whole batch.

        ``ready(k, array)`` is called when result `k` is written, if the program tells.
        """
        arrays = [*operands, *(np.zeros(operands[k].sum(), _BOOL) for k in self.counts)]
        with part(self.sizes[0], range(first, first + self.examples(operands))):
            program, sizes = self.entry.program, self.entry.sizes([x.shape for x in arrays])
            if ready is not None and isinstance(program, backends.Announcing):
                return program(arrays, sizes, ready)
            results: Values = program(arrays, sizes)
        return results


@dataclass(frozen=True, eq=False)
class Divided:
    """A program that runs its batch in parts.

    Attributes
    ----------
    graph : Graph
        The whole program.
    shared, rows : Program
        From the leaves of the arguments to the operands that all parts share, and to those with rows.
    after : Program
        From these leaves and the parts' results to the outputs.
    node : Node
        The node of `chunked`.
    caller : str
        The name of the transform, for errors.
    direct : dict of int to int
        The outputs that are results of the parts as they are, and these results.
    positions : Positions
        The operands and results of a part that count rows.
    """

    graph: Graph
    numbers: tuple[bool, ...]
    node: Node
    shared: Program
    rows: Program
    after: Program
    caller: str
    direct: dict[int, int]
    positions: Positions

    @cached_property
    def body(self) -> bytes:
        """The pickled program of a part, for other processes."""
        return pickled(self.graph, self.here, self.caller)

    @cached_property
    def key(self) -> str:
        """The name of the program of a part."""
        return blake2b(self.body).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the whole program, its constants included: processes that agree on it compute the same."""
        graph = self.graph.replace(in_tree=None, out_tree=None)
        return blake2b(pickled(graph, (graph, self.numbers), self.caller)).hexdigest()

    @cached_property
    def own(self) -> dict[int, int]:
        """The operands of a part that are leaves of the arguments."""
        leaves = {n: k for k, n in enumerate(self.graph.inputs)}
        return {i: leaves[n] for i, n in enumerate(self.node.inputs) if n in leaves}

    @cached_property
    def derived(self) -> dict[int, Derivation]:
        """The operands that workers derive from the rows of their examples."""
        counts, products = self.positions.counts, self.positions.products
        rows = {symbol_of(self.node.params["dim"]): (), **{s: (k,) for s, k in counts.items() if s not in products}}
        kinds = ((Kind.STARTS, self.positions.starts), (Kind.OWNERS, self.positions.owners))
        found = {i: Derivation(kind, rows[s]) for kind, places in kinds for i, s in places.items() if s in rows}
        return found | {counts[s]: Derivation(Kind.ROWS, tuple(counts[factor] for factor in factors))
                        for s, factors in products.items() if s in counts and rows.keys() >= {*factors}}

    @cached_property
    def here(self) -> PartProgram:
        """The program of a part, for this process."""
        return PartProgram.of(self.node)

    @property
    def symbols(self) -> list[tuple[Symbol, Symbol]]:
        """The size of a part, and that of the whole batch, of the examples and of each ragged axis."""
        p = self.node.params
        pairs = [(p["dim"], p["total"]), *p["packed"]]
        return [(symbol_of(a), symbol_of(b)) for a, b in pairs]

    def operands(self, leaves: Sequence[np.ndarray], sizes: Mapping[Symbol, int],
                 whole: Mapping[Symbol, int] | None = None) -> Values:
        """Return the operands of the parts: rows by the sizes of the leaves, shared ones by those of the batch."""
        shared, rows = iter(self.shared(leaves, whole or sizes)), iter(self.rows(leaves, sizes))
        return [np.asarray(leaves[leaf], dtype) if leaf is not None else next(shared if of_all else rows)
                for leaf, dtype, of_all in self._sources]

    def shared_operands(self, leaves: Sequence[np.ndarray], whole: Mapping[Symbol, int]) -> Values:
        """Return the operands that all parts share, in their order."""
        computed = iter(self.shared(leaves, whole))
        return [np.asarray(leaves[leaf], dtype) if leaf is not None else next(computed)
                for leaf, dtype, of_all in self._sources if of_all]

    @cached_property
    def _sources(self) -> list[tuple[int | None, np.dtype, bool]]:
        """The leaf that each operand is, None if it is computed; its dtype; and whether all parts share it."""
        return [(self.own.get(i), n.dtype, axis is None)
                for i, (n, axis) in enumerate(zip(self.node.inputs, self.node.params["in_axes"], strict=True))]

    def spans(self, operands: Sequence[np.ndarray], number: int) -> list[Span]:
        """Return the begin and end of parts of nearly equal numbers of examples, none of them empty."""
        total = self.here.examples(operands)
        if not total:
            raise BatchError(at_user_line(f"{self.caller}({self.graph.name}): an empty batch, without an example"))
        number = min(number, total)
        edges = [total * k // number for k in range(number + 1)]
        return spans_between(edges, self.node.params, operands[:len(self.node.params["packed"])])

    def examples(self, span: Span) -> range:
        """Return the numbers of the examples of a part in the whole batch."""
        begin, end = span
        return range(begin[self._example], end[self._example])

    @cached_property
    def _example(self) -> Symbol:
        """The symbol of the number of examples of a part."""
        return symbol_of(self.node.params["dim"])

    def sections(self, operands: Sequence[np.ndarray], span: Span) -> Values:
        """Return the operands of one part."""
        out = list(operands)
        for i, axis, size in self._cut:
            out[i] = out[i][along(axis, section_of(span, size))]
        return out

    @cached_property
    def _cut(self) -> list[tuple[int, int, Dim]]:
        """The operands that are cut, the axis of each, and its size in a part."""
        p = self.node.params
        return [(i, axis, size) for i, (axis, n) in enumerate(zip(p["in_axes"], p["graph"].inputs, strict=True))
                if axis is not None and isinstance(size := n.shape[axis], Dim)]

    def combining(self, spans: Sequence[Span]) -> Combining:
        """Return what takes the results of the parts, in their order."""
        return Combining(self.node.params["graph"].outputs, self.node.params["out_axes"], spans)

    def summed(self, results: Iterable[Values]) -> Values:
        """Return the sums of all parts from those of each part, added up in their order."""
        p = self.node.params
        dtypes = [o.dtype for o, axis in zip(p["graph"].outputs, p["out_axes"], strict=True) if axis is None]
        chains: list[Chains[np.ndarray]] = [Chains(operator.add) for _ in dtypes]
        for terms in results:
            for chain, term, dtype in zip(chains, terms, dtypes, strict=True):
                chain.take(np.array(term, accumulator(dtype)))
        return [np.asarray(chain.total(), dtype) for chain, dtype in zip(chains, dtypes, strict=True)]

    def zeros(self) -> Values:
        """Return the results of a part without examples."""
        sizes = {own: 0 for own, _ in self.symbols}
        return [np.zeros([value(n, sizes) for n in o.shape], o.dtype) for o in self.node.params["graph"].outputs]

    def finish(self, leaves: Sequence[np.ndarray], results: Sequence[np.ndarray], sizes: Mapping[Symbol, int]
               ) -> PyTree:
        """Return the function's result; results of the parts that it contains are not copied."""
        direct = {k: results[i] for k, i in self.direct.items()}
        computed = self._after_alone([*leaves, *results], sizes) if self._computed else ()
        return self.result({**direct, **dict(zip(self._computed, computed, strict=True))}, {})

    @cached_property
    def _computed(self) -> list[int]:
        """The outputs that are no results of the parts, or the same one as another output."""
        kept = {i: k for k, i in reversed(self.direct.items())}
        return [k for k in range(len(self.numbers)) if k not in kept.values()]

    @cached_property
    def _after_alone(self) -> Program:
        return self.after.of(self._computed)

    def result(self, values: Mapping[int, np.ndarray], others: Mapping[int, PyTree]) -> PyTree:
        """Return the function's result from its outputs: arrays, and others, which stay as they are."""
        outputs: list[PyTree] = [others[k] if k in others else values[k].item() if number else
                                 values[k] if values[k].ndim else values[k][()]
                                 for k, number in enumerate(self.numbers)]
        assert self.graph.out_tree is not None
        return optree.tree_unflatten(self.graph.out_tree, outputs)


def divide(graph: Graph, numbers: tuple[bool, ...], caller: str, positions: Positions | None) -> Divided:
    """Return the parts of a program whose batch runs in passes."""
    nodes = [n for n in graph.nodes if n.prim is chunked]
    if len(nodes) != 1:
        raise BatchError(at_user_line(
            f"{caller}({graph.name}): its batch is computed in {len(nodes)} places, which do not run in parts together"
            if nodes else f"{caller}({graph.name}): nothing depends on the examples"))
    (node,) = nodes
    assert positions is not None
    assert positions.body is node.params["graph"]
    fixed = [str(n) for _, n in [(None, node.params["total"]), *node.params["packed"]] if not isinstance(n, Dim)]
    if fixed:
        raise BatchError(at_user_line(f"{caller}({graph.name}): the program holds for a batch of {fixed[0]} examples "
                                      f"only: {'; '.join(graph.notes)}"))
    leaves = set(graph.inputs)
    shared, rows = (Program(Graph(graph.inputs, tuple(
        n for n, axis in zip(node.inputs, node.params["in_axes"], strict=True)
        if n not in leaves and (axis is None) == of_all), graph.names, name=graph.name)) for of_all in (True, False))
    stand_in = [placeholder(t) for t in node.types]
    by_index = dict(enumerate(stand_in))
    results = {n: by_index[n.params["index"]] for n in graph.nodes if n.prim is proj and n.inputs[0] is node}
    after = Graph((*graph.inputs, *stand_in), tuple(interpreters.substitute(graph.outputs, results)),
                  (*graph.names, *(f"part{k}" for k in by_index)), name=graph.name)
    direct = {k: stand_in.index(o) for k, o in enumerate(after.outputs) if o in stand_in}
    return Divided(graph, numbers, node, shared, rows, Program(after), caller, direct, positions)


def pickled(graph: Graph, program: object, caller: str) -> bytes:
    """Return the pickle of a program that holds `graph` or a graph within it."""
    try:
        return pickle.dumps(program, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MinigradError(at_user_line(
            f"{caller}({graph.name}): {_held_back(graph) or 'the program'} cannot be sent to other processes: {error}. "
            "Define functions and classes at the top of a module")) from error


def _held_back(graph: Graph) -> str | None:
    """Return the node with a parameter that has no pickle."""
    for node in graph.nodes:
        for key, parameter in node.params.items():
            try:
                if not isinstance(parameter, Graph):
                    pickle.dumps(parameter)
            except (pickle.PicklingError, AttributeError, TypeError):
                return (next(filter(None, (_held_back(g) for _, g in held_graphs(node))), None)
                        or f"{key} of {node.prim.name} at {format_location(node.loc)}")
        for _, held in held_graphs(node):
            if (found := _held_back(held)) is not None:
                return found
    return None


class Dividing:
    """A function whose batch runs in parts: one division per structure and dtypes, for all sizes.

    Constants that `f` closes over are those of the first call, as in `compile`.

    Parameters
    ----------
    f : callable
    in_axes : optional
        As of `microbatch`.
    caller : str
        The name of the transform, for errors.
    """

    def __init__(self, f: Callable[..., PyTree], in_axes: InAxes, caller: str):
        self._f, self._in_axes = f, in_axes
        self.name, self._caller = function_name(f), caller
        self._known: dict[object, list[Divided]] = {}
        self._bound: dict[object, tuple[Divided, dict[Symbol, int]]] = {}  # by the types of arguments, sizes included
        self._fixed = FixedNumbers(self._f)

    def __call__(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]
                 ) -> tuple[Divided, Values, dict[Symbol, int]]:
        """Return the division, the leaves of the arguments, and the sizes."""
        tree: PyTree = (args, kwargs)
        leaves, structure = optree.tree_flatten(tree)
        key = structure, *[(x.shape, x.dtype) if type(x) is np.ndarray else kind_of_leaf(x) for x in leaves]
        if (bound := self._bound.get(key)) is not None:
            return bound[0], [np.asarray(x) for x in leaves], bound[1]
        divided, arguments = self._divided(args, kwargs)
        arrays = [np.asarray(x) for x in arguments.flat.leaves]
        sizes = _sizes(divided, arrays)
        if len(arrays) == len(leaves):  # no leaf is static, or a number that the program holds for alone
            if len(self._bound) >= _REMEMBERED:
                self._bound.clear()
            self._bound[key] = divided, sizes
        return divided, arrays, sizes

    def _divided(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> tuple[Divided, Arguments]:
        """Return the division for arguments, and the arguments without static ones; trace the function if it is new."""
        arguments = self._fixed.flatten(args, kwargs)
        arrays = [np.asarray(x) for x in arguments.flat.leaves]
        for divided in self._known.get(_key(arguments.flat), ()):
            try:
                _sizes(divided, arrays)
            except ShapeError:
                continue
            return divided, arguments
        bound, marked = bound_static(self._f, args)
        label = f"{self._caller}({self.name})"
        entries, _ = argument_axes(self._in_axes, len(args), [*kwargs], lambda: parameter_names(bound), label)
        divided = self._traced(unmarked(_with_examples(marked, entries, label)), kwargs, arguments)
        arguments = self._fixed.flatten(args, kwargs)
        self._known.setdefault(_key(arguments.flat), []).append(divided)
        return divided, arguments

    def parameters(self) -> list[str]:
        """Return the names of the parameters of the function that take positional arguments."""
        return parameter_names(self._f)

    def names(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> list[str]:
        """Return a name for each argument, and each leaf of a pytree of them; a batch is one leaf."""
        tree: PyTree = (args, kwargs)
        marked: PyTree = optree.tree_map(lambda x: 0, tree, is_leaf=is_batch)
        return list(argument_names(self._f, *marked))

    def _traced(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], arguments: Arguments) -> Divided:
        numbers: tuple[bool, ...] = ()
        positions: list[Positions] = []  # one per trace: the last one counts

        @functools.wraps(self._f)
        def noting(*args: PyTree, **kwargs: PyTree) -> PyTree:
            nonlocal numbers
            result = self._f(*args, **kwargs)
            numbers = tuple(map(is_weak, optree.tree_leaves(result)))
            return result

        passes = in_passes(noting, 1, self._in_axes, self._caller, positions.append)
        traced, _ = self._fixed.trace(args, kwargs, arguments, passes)
        return divide(traced.graph, numbers, self._caller, positions[-1] if positions else None)


def _key(flat: Flat) -> object:
    """Return the structure and the types of arguments, but for their sizes."""
    return flat.tree, *(t.dtype for t in flat.types), *map(is_weak, flat.leaves)


def _with_examples(args: tuple[PyTree, ...], axes: tuple[InAxes, ...], label: str) -> tuple[PyTree, ...]:
    """Return arguments of the same types with examples, for the trace of a rank that has none."""
    tree: PyTree = args
    leaves, structure = optree.tree_flatten(tree, is_leaf=is_batch)
    flat = prefix(axes, structure, f"in_axes of {label}")
    if not any(a is not None and _without(x, a) for x, a in zip(leaves, flat, strict=True)):
        return args
    filled: PyTree = optree.tree_unflatten(structure, [
        x if a is None else _two(x, a) for x, a in zip(leaves, flat, strict=True)])
    return tuple(filled)


def _without(x: Batch | ArrayLike, axis: int) -> bool:
    """Return whether an argument has no examples along an axis."""
    return not (len(x) if is_batch(x) else np.ndim(x) == 0 or np.shape(x)[axis])


def _two(x: Batch | ArrayLike, axis: int) -> Batch | np.ndarray:
    """Return an argument of the same types with two examples."""
    if is_batch(x):
        types = x.schema.leaf_types
        return Batch.of_leaves(x.schema, {n: v if v is None or types[n].shared else _two(v, 0)
                                          for n, v in x.leaves().items()})
    shape = list(np.shape(x))
    shape[axis] = 2
    return np.zeros(shape, np.asarray(x).dtype)


def _sizes(divided: Divided, arrays: Values) -> dict[Symbol, int]:
    return argument_sizes(divided.graph, [a.shape for a in arrays])

