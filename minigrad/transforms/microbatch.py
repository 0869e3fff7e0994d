"""Microbatching: the same mean and gradient with a few examples in memory at a time.

The program of the whole batch is cut at the sums over the batch. Nodes with the batch axis run chunk by chunk (the
primitive `chunked`), the sums add up over the chunks, and the nodes after the sums run once. Denominators count the
whole batch, so the result does not depend on the size of the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from .. import interpreters
from ..budgets import Budget, bytes_of
from ..defined_sizes import definitions, symbols_of_node
from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Graph, InAxes, Node, PyTree, full, reachable
from ..immutable import cached_property
from ..ops.accumulators import accumulator
from ..ops.broadcast import broadcast_along
from ..ops.constants import size_scalar
from ..ops.control import chunked, parts
from ..ops.elementwise import cast_to, eq, where
from ..ops.mean import mean, per_count
from ..ops.reduce import min_, sum_
from ..ops.results import SEPARABLE, checks_as_results, waiting, with_results, zero
from ..ops.subgraph import fixed_point
from ..primitive import placeholder
from ..symbolic import Dim, Symbol, size_of
from ..tracing import made_by
from .batch_axis import ROWS, SHARED, SUM, WHOLE, Counts, Mixes, Reading, Roles, gathers_rows, results_roles
from .common_axes import CommonAxes, with_common_axes
from .in_axes import Arguments, by_kind, mapped_axes
from .partition import Cut, Facts
from .pickling import picklable
from .trace import Call, Staged, function_name, transform

_INT = np.dtype(np.int64)


class Inherit(Enum):
    """The default of `in_axes`: the axes of the function that runs in passes."""

    IN_AXES = "in_axes"


@picklable
def microbatch(f: Callable[..., PyTree], size: int | None = None, in_axes: InAxes | Inherit = Inherit.IN_AXES, *,
               memory: int | str | None = None) -> Callable[..., PyTree]:
    """Return `f` computed in passes over a few examples at a time.

    Parameters
    ----------
    f : callable
        A function of a whole batch: ``mean_loss(loss)``, its gradient, ``vmap(g)``, or a loss written on
        batched arrays. It may sum or average over the batch axis, or take the maximum or minimum along it (of rows
        that are kept for the whole batch), and may go on computing with the results.
    size : int, optional
        The number of examples in memory at a time; the last pass may have fewer.
    in_axes : int, None, or a pytree of them
        The batch axis of each argument, as in `vmap`. The default is the `in_axes` of `f` if it comes
        from `mean_loss` or `vmap`, else 0.
    memory : int or str, optional
        In place of `size`: the memory of a call, in bytes or as ``"500 MB"`` (10⁶ bytes) or ``"2 GiB"`` (2³⁰). Passes
        are as long as it allows. It covers all that a call needs at its peak beside its arguments: results, sums, and
        the workspace of a pass. Compiled, this is the memory of the whole program, to a few percent; otherwise,
        of the loop over passes, evaluated node by node.

    Returns
    -------
    callable
        Equal to `f` to round-off, and compiled if `f` is compiled. It can be differentiated, batched and compiled like
        any function; its gradient holds one chunk's intermediates at a time, too. A `Batch` of examples of different
        size is cut between its examples, all ragged axes together: a pass has at most `size` examples, and their
        rows.

    Raises
    ------
    BatchError
        If a value of the batch as a whole flows back into single examples (a batch statistic), a node mixes
        examples in another way than by a sum, or it computes with the positions of rows in the batch: the error
        names the node. On a call, if one example exceeds `memory`: the error has both numbers.

    Examples
    --------
    >>> loss = mg.mean_loss(lambda w, x: (w * x) ** 2, in_axes=(None, 0))
    >>> mg.grad(mg.microbatch(loss, 2, in_axes=(None, 0)))(2.0, np.array([1.0, 3.0, 1.0, 3.0]))
    np.float64(20.0)

    >>> step = mg.compile(mg.grad(mg.microbatch(loss, memory="1 MB", in_axes=(None, 0))))
    >>> round(step(2.0, np.ones(10**6)), 6), step.memory(10**6) <= 10**6
    (np.float64(4.0), True)
    """
    in_axes = inherited(f, in_axes)
    call = f"microbatch({function_name(f)})"
    limit: int | Budget
    if memory is not None:
        if size is not None:
            raise BatchError(at_user_line(f"{call}: give size or memory, not both"))
        limit = Budget(bytes_of(memory, call))
    elif not isinstance(size, int) or size < 1:
        raise BatchError(at_user_line(f"{call}: size must be a positive int, got {size!r}; or give memory, such as "
                                      "memory='500 MB'"))
    else:
        limit = size
    passes = in_passes(f, limit, in_axes)
    compiled: Callable[..., PyTree] = f.like(passes) if hasattr(f, "like") else passes
    return compiled


def inherited(f: Callable[..., PyTree], in_axes: InAxes | Inherit) -> InAxes:
    """Return the batch axes of a call: those given, or those of `mean_loss` and `vmap`."""
    return getattr(f, "in_axes", 0) if isinstance(in_axes, Inherit) else in_axes


@transform
def in_passes(f: Callable[..., PyTree], size: int | Budget, in_axes: InAxes, caller: str = "microbatch",
              note: Callable[[Positions], None] | None = None) -> Callable[..., PyTree]:
    """Return `f` computed in passes of at most `size` examples, or within a budget; errors name the caller.

    ``note(positions)`` is told which integers of a part count rows.
    """

    def rewrite(call: Call) -> Graph:
        def trace(common: CommonAxes) -> tuple[Parts, Staged]:
            with made_by("microbatch"):
                cut = parts_of((call.args, call.kwargs), call, in_axes, caller, common)
            return cut, call.trace(cut.types, nothing=True)

        cut, staged = with_common_axes(trace)
        with made_by("microbatch"):
            outputs = _Passes(staged, call.inputs, cut, size, caller, note).cut()
        return Graph(tuple(call.inputs), tuple(outputs), out_tree=staged.graph.out_tree)

    vars(rewrite).update(in_axes=in_axes)
    return rewrite


@dataclass(eq=False, repr=False)
class Parts:
    """The arguments of a function, for a part of the batch.

    Attributes
    ----------
    cut : Cut
    axes : list of (int or None)
        The cut axis of each leaf; None if all parts share the leaf.
    types : list of ArrayType
        The type of each leaf in a part.
    facts : dict of int to Facts
        The facts about leaves that are indices, or numbers of rows.
    counts : dict of Symbol to Node
        The rows of each example (B,), for each number of rows of a part.
    starts : dict of Symbol to Node
        The rows that precede each example (B,), for each size of a part that indices point into.
    owners : dict of int to Symbol
        The leaves that name the example of each row, and the number of these rows in a part.
    """

    cut: Cut
    axes: list[int | None]
    types: list[ArrayType]
    facts: dict[int, Facts] = field(default_factory=dict)
    counts: dict[Symbol, Node] = field(default_factory=dict)
    starts: dict[Symbol, Node] = field(default_factory=dict)
    owners: dict[int, Symbol] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Positions:
    """The operands and results of a part whose integers count rows, by their places.

    Attributes
    ----------
    body : Graph
        The graph of a part.
    counts : dict of Symbol to int
        The operand with the rows of each example, for each number of rows of a part.
    products : dict of Symbol to tuple of Symbol
        The numbers of rows whose product, in each example, is another number of rows.
    starts, owners : dict of int to Symbol
        The operands with the rows that precede each example, and with the example of each row: the rows are those of a
        size of a part.
    moved : dict of int to (Dim, bool)
        The results that count from the first row of the whole batch: the length of the axis in a part, and whether -1
        points nowhere.
    """

    body: Graph
    counts: dict[Symbol, int]
    products: dict[Symbol, tuple[Symbol, ...]]
    starts: dict[int, Symbol]
    owners: dict[int, Symbol]
    moved: dict[int, tuple[Dim, bool]]


@by_kind
def parts_of(examples: Arguments, call: Call, in_axes: InAxes, caller: str, common: CommonAxes) -> Parts:
    """Return the cut of a call's arguments into parts."""
    axes, total = mapped_axes(call.f, *examples, in_axes, call.types, caller)
    dim = Dim.new("chunk")
    return Parts(Cut(dim, dict.fromkeys(dim.symbols, total)), axes,
                 [t if a is None else resized(t, a, dim) for t, a in zip(call.types, axes, strict=True)])


def resized(t: ArrayType, axis: int, n: int | Dim) -> ArrayType:
    """Return a type with another size of one axis."""
    return ArrayType((*t.shape[:axis], n, *t.shape[axis + 1:]), t.dtype)


@dataclass(eq=False, repr=False)
class _Passes:
    """A program that runs part by part.

    It was `staged` for a part of the batch; `new` are the inputs of the whole batch.
    """

    staged: Staged
    new: Sequence[Node]
    parts: Parts
    size: int | Budget
    caller: str
    note: Callable[[Positions], None] | None = None

    @property
    def old(self) -> list[Node]:
        return self.staged.inputs

    def cut(self) -> list[Node]:
        """Return the outputs, computed from the results of one `chunked` node."""
        cut = self.parts.cut
        try:
            outputs, checks, shared_checks, known = self._roles_apart(self.staged.outputs)
            roles, inside = known.roles, _in_chunks(known)
            gathered = [i for n in roles if roles[n] is WHOLE and gathers_rows(n) for i in n.inputs]
            results = [n for n in dict.fromkeys([*outputs, *gathered]) if n in inside and roles[n] is ROWS]
            shifts = [self._shift(n, known.facts_of(n)) for n in results]
            self._refuse_totals(results, known)
        except Mixes as error:
            raise _mixes(self.caller, self.staged.call.name, error) from None
        sums = _sums_over_chunks(outputs, inside, roles)
        whole = {o: n for o, n, a in zip(self.old, self.new, self.parts.axes, strict=True) if a is None}
        whole |= {n: size_scalar(cut.whole(n.params["size"]), n.dtype) for n in roles
                  if known.is_size(n) and n not in inside}
        if shared_checks:
            outputs[0] = waiting(outputs[0], shared_checks)
        if checks:  # each chunk checks its own examples
            inside.update(_on_rows(checks, known))
            sums.append(waiting(zero(), checks))
            outputs[0] = waiting(outputs[0], sums[-1:])
        if not sums and not results:
            return interpreters.substitute(outputs, whole)
        inside.update(each for each, _ in self._starts.values())
        body_outputs = [_numerator(n) for n in sums]
        body_outputs += [self._moved(n, shift, 1) for n, shift in zip(results, shifts, strict=True)]
        inside.update(body_outputs)
        for n in reachable(body_outputs):
            if n not in roles and not inside.isdisjoint(n.inputs):
                inside.add(n)
        values = self._node(inside, body_outputs, whole, len(sums), shifts)
        done = dict(zip(results, values[len(sums):], strict=True))
        for n, value in zip(sums, values, strict=False):
            done[n] = _divided(n, value, cut) if n.prim.name == "mean" else value
        return interpreters.substitute(outputs, {**whole, **done})

    def _refuse_totals(self, results: Iterable[Node], known: Reading) -> None:
        """Refuse uses of a number of rows in the whole batch that the parts define one after the other."""
        for n in (*results, *known.roles):
            sizes: Iterable[int | Dim] = n.types[0].shape if n in results else ()
            if n.prim is mean and known.roles[n] is WHOLE:
                sizes = n.inputs[0].shape
            elif known.is_size(n) and n not in known.local:
                sizes = (n.params["size"],)
            if self.parts.cut.is_defined(sizes):
                raise Mixes(n, "the number of rows that all examples keep is known only after the last chunk",
                            "Sum or average them within the example")

    def _roles_apart(self, outputs: Sequence[Node]) -> tuple[list[Node], list[Node], list[Node], Reading]:
        """Return the outputs, the checks of the examples' indices, all other checks, and the role of each node.

        A shared result of a node that also computes rows gets a node of its own, which runs before the first chunk.
        Values of the whole batch do not wait for rows. Inputs and sizes of the batch have roles, too.
        """
        graph = checks_as_results(Graph(tuple(self.old), tuple(outputs)))
        count = len(outputs)
        input_roles = {n: SHARED if a is None else ROWS for n, a in zip(self.old, self.parts.axes, strict=True)}

        varying = [n for n in self.old if input_roles[n] is ROWS]
        for symbol in definitions(n for n in interpreters.dependent(graph.outputs, varying) if n.prim.defines):
            self.parts.cut.define(symbol)

        def split(roots: list[Node]) -> tuple[list[Node], Reading]:
            reading = Reading(self.parts.cut, input_roles, {self.old[k]: f for k, f in self.parts.facts.items()})
            sources = [n for n in reachable(roots) if reading.has_axis(n) or reading.is_size(n)]
            region = interpreters.dependent(roots, [*self.old, *sources])
            reading.read(region)
            known = reading.roles
            stay = {n.inputs[0] for n in region if n.prim.name == "proj" and known[n] is not SHARED}
            used = set(reachable(roots[:count]))
            apart, more = {}, []
            for n in region:
                beside = known[n] is SHARED and any(known.get(i, SHARED) is not SHARED for i in n.inputs)
                late = n.prim.name == "barrier" and known[n] in (SUM, WHOLE) and known.get(n.inputs[1]) is ROWS
                if n in used and (beside or late):
                    apart[n], check = _alone(n, known)
                    if check is not None and n.inputs[0] not in stay:
                        more.append(check)
            return interpreters.substitute([*roots, *more], apart), reading

        roots, reading = fixed_point(split, list(graph.outputs))
        of_rows: list[Node] = []
        others: list[Node] = []
        for check in dict.fromkeys(roots[count:]):
            (of_rows if _is_of_rows(check, reading) else others).append(check)
        return roots[:count], of_rows, others, reading

    # -- indices: counted from the first row of the batch outside, and of the part inside ------------------------

    @cached_property
    def _starts(self) -> dict[Symbol, tuple[Node, Node]]:
        """The rows before each example of a part, and the rows before the part."""
        each = {s: placeholder(ArrayType((self.parts.cut.dim,), _INT)) for s in self.parts.starts}
        return {s: (n, min_(n, axes=(0,))) for s, n in each.items()}

    def _shift(self, node: Node, facts: Facts) -> tuple[Dim, bool] | None:
        """Return the length of the axis that integers point into, and whether they may be null; None for others."""
        if facts.layout - self.parts.cut.straight(node.types[0]):
            raise Mixes(node, "it moves elements across the batch axis")
        if not facts.points or facts.points == {(0, 0)}:
            return None
        ((before, n), *more) = facts.points
        if more or before != 0 or not isinstance(n, Dim) or not (
                n.symbols & self.parts.cut.totals.keys() <= self._starts.keys()):
            raise Counts(node, facts.points, self.parts.cut)
        return n, facts.null

    def _moved(self, index: Node, shift: tuple[Dim, bool] | None, sign: int) -> Node:
        """Return an index moved by the rows that precede the part."""
        if shift is None:
            return index
        n, null = shift
        start = sum((self._starts[s][1] * (factor * sign) for (s,), factor in n.terms[1:]),
                    self._starts[n.terms[0][0][0]][1] * (n.terms[0][1] * sign))
        moved = index + broadcast_along(cast_to(start, index.dtype), index.shape, tuple(range(index.ndim)))
        return where(eq(index, full(-1, index.shape, index.dtype)), index, moved) if null else moved

    # -- the loop ------------------------------------------------------------------------------------------------

    def _operands(self, inside: set[Node], outputs: Sequence[Node], shifts: Sequence[tuple[Dim, bool] | None]
                  ) -> tuple[dict[Symbol, Node], list[tuple[Node, Node, int | None]]]:
        """Return the row counts that a part reads, and its operands: each in the part, in the batch, and its axis."""
        body_nodes = {n for n in reachable(outputs) if n in inside}
        shared = list(dict.fromkeys(
            i for n in sorted(body_nodes, key=lambda n: n.serial) for i in n.inputs
            if i not in inside and i.prim.name not in ("full", "const")))
        packed, read = self.parts.counts, set(self.old)
        if packed:  # most programs read few leaves and row counts of a batch
            read = set(reachable(outputs))
            sizes: set[Symbol] = set().union(*map(symbols_of_node, read), *(n.symbols for n, _ in filter(None, shifts)))
            packed = {s: n for s, n in packed.items() if s in sizes}
        counts = [(placeholder(ArrayType((self.parts.cut.dim,), n.dtype)), n, 0) for n in packed.values()]
        mapped = [(o, n, a) for o, n, a in zip(self.old, self.new, self.parts.axes, strict=True)
                  if a is not None and o in read]
        starts = [(each, self.parts.starts[s], 0) for s, (each, _) in self._starts.items()]
        return packed, [*counts, *mapped, *starts, *((n, n, None) for n in shared)]

    def _positions(self, body: Graph, packed: Iterable[Symbol], operands: Sequence[Node], n_sums: int,
                   shifts: Sequence[tuple[Dim, bool] | None]) -> Positions:
        """Return where the operands that count rows stand, and the results that are indices."""
        places = {o: k for k, o in enumerate(operands)}
        return Positions(
            body, {s: k for k, s in enumerate(packed)},
            {s: product for product, n in self.parts.cut.rows.items() if len(product) > 1 for s in n.symbols},
            {places[each]: s for s, (each, _) in self._starts.items()},
            {places[self.old[k]]: s for k, s in self.parts.owners.items() if self.old[k] in places},
            {n_sums + k: shift for k, shift in enumerate(shifts) if shift is not None})

    def _node(self, inside: set[Node], outputs: Sequence[Node], whole: Mapping[Node, Node], n_sums: int,
              shifts: Sequence[tuple[Dim, bool] | None]) -> list[Node]:
        """Return the results of a `chunked` node of the part of the program that has the batch axis."""
        cut = self.parts.cut
        packed, operands = self._operands(inside, outputs, shifts)
        stand_in = {o: placeholder(o.types[0]) for o, _, _ in operands}
        called = dict(zip(self.old, self.staged.call.names, strict=True))
        moved = dict(stand_in)
        for k, facts in self.parts.facts.items():
            if facts.points and self.old[k] in stand_in:
                moved[self.old[k]] = interpreters.substitute(
                    [self._moved(stand_in[self.old[k]], self._shift(self.old[k], facts), -1)], stand_in)[0]
        body = Graph(tuple(stand_in.values()), tuple(interpreters.substitute(outputs, moved)),
                     tuple(called.get(n, f"shared{i}") for i, n in enumerate(stand_in)),
                     name=self.staged.call.name)
        if self.note is not None:
            self.note(self._positions(body, packed, [o for o, _, _ in operands], n_sums, shifts))
        arguments = interpreters.substitute([n for _, n, _ in operands], whole)
        if isinstance(self.size, Budget) and (defined := definitions(body.nodes)):
            node = next(iter(defined.values()))
            raise BatchError(f"{node.where}: microbatch({body.name}): the memory of a pass is not known before it "
                             "runs, as the data determine a size. Give size, a number of examples, in place of memory")
        return parts(chunked(
            *arguments, graph=body, dim=cut.dim, size=self.size, total=cut.whole(cut.dim),
            packed=tuple((Dim((((s,), 1),)), cut.totals[s]) for s in packed),
            in_axes=tuple(a for _, _, a in operands),
            out_axes=(*(None for _ in range(n_sums)), *(cut.axis_of(o.types[0]) for o in outputs[n_sums:]))))


def _sums_over_chunks(outputs: Sequence[Node], inside: Container[Node], roles: Mapping[Node, Roles]) -> list[Node]:
    """Return, in order, the sums over the chunks that the outputs, or values of the whole batch, use."""
    after = [n for n, role in roles.items() if n not in inside and role in (SUM, WHOLE)]
    used = {*outputs, *(i for n in after for i in n.inputs)}
    sums = [n for n, role in roles.items() if n in inside and role is SUM and n in used]
    sums += [n for n in after if not gathers_rows(n) and any(i in inside and roles[i] is not SUM for i in n.inputs)]
    return sorted(sums, key=lambda n: n.serial)


def _in_chunks(known: Reading) -> set[Node]:
    """Return the nodes that run chunk by chunk: nodes with rows, and the sums over a chunk that they use."""
    chunk_nodes = set(known.local)  # sizes that displace an index of the part
    roles = known.roles
    for node in sorted(roles, key=lambda n: n.serial, reverse=True):
        role = roles[node]
        if node in chunk_nodes or role is ROWS or (isinstance(role, tuple) and not {ROWS, SUM}.isdisjoint(role)):
            chunk_nodes.add(node)
            chunk_nodes.update(i for i in node.inputs if roles.get(i) is SUM)
    return chunk_nodes


def _is_of_rows(check: Node, known: Reading) -> bool:
    """Return whether a check depends on examples, and on no sum over them but a part's own numbers of rows."""
    way = _on_rows([check], known)
    of_part = {n for size in way if size.prim.defines for n in (size, *size.inputs)}
    return bool(way) and all(known.roles[n] not in (SUM, WHOLE) or n in of_part for n in way)


def _on_rows(nodes: Sequence[Node], known: Reading) -> list[Node]:
    """Return the nodes that `nodes` depend on and that depend on the examples, `nodes` included."""
    return interpreters.dependent(nodes, [n for n in reachable(nodes) if known.has_axis(n)])


def _alone(node: Node, known: Mapping[Node, Roles]) -> tuple[Node, Node | None]:
    """Return a node for a value that all examples share, without their rows among its operands.

    The second result is a row of the node, which still checks the examples' indices, or None.
    """
    source = node.inputs[0]
    if node.prim.name == "barrier":  # the value need not wait for the cotangents of rows
        return source, None
    if source.prim.name in SEPARABLE:
        for checks in (True, False):
            smaller, places = with_results(source, [node.params["index"]], checks)
            if all(known.get(i, SHARED) is SHARED for i in smaller.inputs):
                check = None if checks else next(
                    (n for n, r in zip(parts(source), results_roles(known[source]), strict=True) if r is ROWS), None)
                return interpreters.rebuilt(node, (smaller,), {"index": places[node.params["index"]]}), check
    raise Mixes(source, f"its result {node.params['index']} is the same for all examples, and is computed beside their "
                "rows", "Compute it in a function of its own")


def _numerator(node: Node) -> Node:
    if node.prim.name != "mean":
        return node
    with made_by("microbatch") as working_on:
        working_on(node)
        return sum_(cast_to(node.inputs[0], accumulator(node.dtype)), axes=node.params["axes"])


def _divided(node: Node, numerator: Node, cut: Cut) -> Node:
    """Return a mean from its numerator: divided once, by the whole batch's denominator."""
    shape = node.inputs[0].shape
    return cast_to(per_count(numerator, cut.whole(size_of(shape[a] for a in node.params["axes"]))), node.dtype)


def _mixes(caller: str, name: str, error: Mixes) -> BatchError:
    node, instead = error.node, (caller == "microbatch" and error.in_microbatch) or error.instead
    operands = ", ".join(str(i.type) for i in node.inputs)
    return BatchError(
        f"{node.where}: {caller}({name}): {node.prim.name}({operands}) -> {node.type} mixes examples: {error.why}. "
        f"{instead}, or give the whole batch at once.")
