"""Microbatching: the same mean and gradient with a few examples in memory at a time.

The program of the whole batch is cut where sums over the batch are taken: what has the batch axis runs
chunk by chunk (the primitive `chunked`), the sums add up over the chunks, and what follows the sums runs
once. Denominators are those of the whole batch, so the result does not depend on how it is cut.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import walk
from ..dims import Dim, size_of
from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Graph, Node
from ..ops.accumulators import accumulator
from ..ops.constants import size_scalar
from ..ops.control import chunked, parts, placeholder
from ..ops.elementwise import cast_to
from ..ops.layout import reshape
from ..ops.results import SEPARABLE, result, untied, waiting, with_results, zero
from ..ops.spread import per_count, sum_
from ..tracing import made_by
from .batch_axis import ROWS, SHARED, SUM, WHOLE, Mixes, Roles, axis_of, counts, has_axis, is_size, per_example, roles
from .mapped import mapped_axes
from .picklable import picklable
from .ragged import has_batch
from .some_at_a_time import some_at_a_time
from .trace import finish, flatten_arguments, function_name, stage

_INHERIT = object()


@picklable
def microbatch(f: Callable[..., Any], size: int, in_axes: Any = _INHERIT) -> Callable[..., Any]:
    """Return `f` computed in passes of at most `size` examples.

    Parameters
    ----------
    f : callable
        A function of a whole batch: ``mean_loss(loss)``, its gradient, ``vmap(g)``, or a loss written on
        batched arrays. It may sum or average over the batch axis, and may go on computing with the sums.
    size : int
        The number of examples in memory at a time; the last pass may have fewer.
    in_axes : int, None, or a pytree of them
        The batch axis of each argument, as in `vmap`. By default that of `f` where it was made by
        `mean_loss` or `vmap`, else 0.

    Returns
    -------
    callable
        Equal to `f` to round-off. It can be differentiated, batched and compiled like any function; its
        gradient holds one chunk's intermediates at a time, too. With examples of different size (a `Batch`) it is a
        loop over parts of the batch, which takes arrays: differentiate and compile `f` itself.

    Raises
    ------
    BatchError
        If a value of the batch as a whole flows back into single examples (a batch statistic), or a node
        mixes examples in another way than by a sum: the error names the node.
    """
    if in_axes is _INHERIT:
        in_axes = getattr(f, "in_axes", 0)
    if not isinstance(size, int) or size < 1:
        raise BatchError(at_user_line(
            f"microbatch({function_name(f)}): size {size!r}; a pass has at least one example"))

    readings: dict[Any, Any] = {}

    @functools.wraps(f)
    def chunk_by_chunk(*args: Any, **kwargs: Any) -> Any:
        if has_batch((args, kwargs)):
            return some_at_a_time(f, size, in_axes, readings, args, kwargs)
        leaves, tree, types = flatten_arguments(f, args, kwargs)
        axes, total = mapped_axes(f, args, kwargs, in_axes, types, "microbatch")
        dim = Dim.new("chunk")
        chunk_types = [t if a is None else ArrayType((*t.shape[:a], dim, *t.shape[a + 1:]), t.dtype)
                       for t, a in zip(types, axes, strict=True)]
        staged = stage(f, args, kwargs, (leaves, tree, chunk_types))
        inputs = [placeholder(t) for t in types]
        with made_by("microbatch"):
            outputs = _cut(function_name(f), staged.names, staged.inputs, inputs, axes, staged.outputs, dim, total,
                           size)
        return finish(inputs, leaves, outputs, staged.out_tree)

    chunk_by_chunk.in_axes = in_axes
    return chunk_by_chunk


def _cut(name: str, names: Sequence[str], old: Sequence[Node], new: Sequence[Node], axes: Sequence[int | None],
         outputs: Sequence[Node], dim: Dim, total: int | Dim, size: int) -> list[Node]:
    """Return the outputs as one `chunked` node and what follows it.

    `old` are the inputs that the program was traced with (batch axes of length `dim`), `new` the whole ones.
    """
    try:
        outputs, checks, shared_checks, known = _roles_apart(outputs, old, dim)
    except Mixes as error:
        raise _mixes(name, error.node, error.why, error.instead) from None
    inside = _in_chunks(known)
    results = [n for n in dict.fromkeys(outputs) if n in inside and known[n] is ROWS]
    for n in results:
        if counts(n, dim):
            raise _mixes(name, n, "it counts the examples")
    after = [n for n, role in known.items() if n not in inside and role in (SUM, WHOLE)]
    used = {*outputs, *(i for n in after for i in n.inputs)}
    sums = [n for n in inside if known[n] is SUM and n in used]
    sums += [n for n in after if any(i in inside and known[i] is not SUM for i in n.inputs)]
    sums.sort(key=lambda n: n.serial)
    whole = {o: n for o, n, a in zip(old, new, axes, strict=True) if a is None}
    whole |= {n: size_scalar(_total(n.params["size"], dim, total), n.dtype) for n in known if is_size(n, dim)}
    if shared_checks:
        outputs[0] = waiting(outputs[0], shared_checks)
    if checks:  # each chunk makes those of its examples
        inside.update(_on_rows(checks, dim))
        sums.append(waiting(zero(), checks))
        outputs[0] = waiting(outputs[0], sums[-1:])
    if not sums and not results:
        return walk.substitute(outputs, whole)
    body_outputs = [_numerator(n) for n in sums] + [_by_example(n, dim) for n in results]
    inside.update(body_outputs)
    for n in walk.reachable(body_outputs):
        if n not in known and not inside.isdisjoint(n.inputs):
            inside.add(n)
    values = _chunk_node(name, names, old, new, axes, inside, body_outputs, whole, len(sums), dim, total, size)
    done = {n: _shaped(v, _whole_shape(n.shape, dim, total))
            for n, v in zip(results, values[len(sums):], strict=True)}
    for n, value in zip(sums, values, strict=False):
        done[n] = _divided(n, value, dim, total) if n.prim.name == "mean" else value
    return walk.substitute(outputs, {**whole, **done})


def _in_chunks(known: dict[Node, Roles]) -> set[Node]:
    """Return the nodes that run chunk by chunk: those with rows, and the sums over a chunk that they go on with."""
    found: set[Node] = set()
    for node in sorted(known, key=lambda n: n.serial, reverse=True):
        role = known[node]
        if node in found or role is ROWS or (isinstance(role, tuple) and not {ROWS, SUM}.isdisjoint(role)):
            found.add(node)
            found.update(i for i in node.inputs if known.get(i) is SUM)
    return found


def _roles_apart(outputs: Sequence[Node], inputs: Sequence[Node], dim: Dim
                 ) -> tuple[list[Node], list[Node], list[Node], dict[Node, Roles]]:
    """Return the outputs, the checks of the examples' indices, all other checks, and the role of each node.

    What all examples share, and a node computes beside rows of theirs, gets a node of its own: it is computed before
    the first chunk. Values of the whole batch wait for no rows. Inputs and sizes of the batch have roles, too.
    """
    graph = untied(Graph(tuple(inputs), tuple(outputs)))
    roots, count = list(graph.outputs), len(outputs)
    while True:
        made = [n for n in walk.reachable(roots) if has_axis(n, dim) or is_size(n, dim)]
        region = walk.dependent(roots, [*inputs, *made])
        known = roles(region, {n: ROWS if has_axis(n, dim) else SHARED for n in inputs}, dim)
        stay = {n.inputs[0] for n in region if n.prim.name == "proj" and known[n] is not SHARED}
        used = set(walk.reachable(roots[:count]))
        apart, more = {}, []
        for n in region:
            if n in used and ((known[n] is SHARED and any(known.get(i, SHARED) is not SHARED for i in n.inputs)) or (
                    n.prim.name == "barrier" and known[n] in (SUM, WHOLE) and known.get(n.inputs[1]) is ROWS)):
                apart[n], check = _alone(n, known)
                if check is not None and n.inputs[0] not in stay:
                    more.append(check)
        if not apart:
            break
        roots = walk.substitute([*roots, *more], apart)
    of_rows, others = [], []
    for check in dict.fromkeys(roots[count:]):
        way = _on_rows([check], dim)
        (of_rows if way and all(known[n] not in (SUM, WHOLE) for n in way) else others).append(check)
    return roots[:count], of_rows, others, known


def _on_rows(nodes: Sequence[Node], dim: Dim) -> list[Node]:
    """Return the nodes that `nodes` depend on and that depend on the examples, `nodes` included."""
    return walk.dependent(nodes, [n for n in walk.reachable(nodes) if has_axis(n, dim)])


def _alone(node: Node, known: dict[Node, Roles]) -> tuple[Node, Node | None]:
    """Return a node for a value that all examples share, without their rows among its operands.

    The second result is a row that checks the examples' indices as the node did, or None.
    """
    source = node.inputs[0]
    if node.prim.name == "barrier":  # it need not wait for their cotangents
        return source, None
    if source.prim.name in SEPARABLE:
        for checks in (True, False):
            smaller, places = with_results(source, [node.params["index"]], checks)
            if all(known.get(i, SHARED) is SHARED for i in smaller.inputs):
                check = None if checks else next((n for n, r in zip(parts(source), known[source], strict=True)
                                                  if r is ROWS), None)
                return result(smaller, places[node.params["index"]], node), check
    raise Mixes(source, f"its result {node.params['index']} is the same for all examples, and is computed beside their "
                "rows", "Compute it in a function of its own")


def _total(size: Dim, dim: Dim, total: int | Dim) -> int | Dim:
    """Return a size with the chunk's length replaced by the whole batch's."""
    out: int | Dim = 0
    for monomial, factor in size.terms:
        term: int | Dim = factor
        for s in monomial:
            term = term * (total if s is dim.symbol else Dim((((s,), 1),)))
        out = out + term
    return out


def _whole_shape(shape: Sequence[int | Dim], dim: Dim, total: int | Dim) -> tuple[int | Dim, ...]:
    return tuple(_total(n, dim, total) if isinstance(n, Dim) else n for n in shape)


def _by_example(node: Node, dim: Dim) -> Node:
    """Return a result with an axis that has one entry per example."""
    at = axis_of(node.type, dim)
    rows = per_example(node.shape[at], dim)
    with made_by("microbatch") as working_on:
        working_on(node)
        return _shaped(node, (*node.shape[:at], *((dim,) if rows == 1 else (dim, rows)), *node.shape[at + 1:]))


def _shaped(node: Node, shape: tuple[int | Dim, ...]) -> Node:
    return node if node.shape == shape else reshape(node, shape=shape)


def _numerator(node: Node) -> Node:
    if node.prim.name != "mean":
        return node
    with made_by("microbatch") as working_on:
        working_on(node)
        return sum_(cast_to(node.inputs[0], accumulator(node.dtype)), axes=node.params["axes"])


def _divided(node: Node, numerator: Node, dim: Dim, total: int | Dim) -> Node:
    """Return a mean from its numerator: divided once, by the whole batch's denominator."""
    shape = _whole_shape(node.inputs[0].shape, dim, total)
    return cast_to(per_count(numerator, size_of(shape[a] for a in node.params["axes"])), node.dtype)


def _chunk_node(name: str, names: Sequence[str], old: Sequence[Node], new: Sequence[Node],
                axes: Sequence[int | None], inside: set[Node], outputs: Sequence[Node], whole: dict[Node, Node],
                n_sums: int, dim: Dim, total: int | Dim, size: int) -> list[Node]:
    """Return the results of a `chunked` node of the part of the program that has the batch axis."""
    body_nodes = {n for n in walk.reachable(outputs) if n in inside}
    shared = list(dict.fromkeys(
        i for n in sorted(body_nodes, key=lambda n: n.serial) for i in n.inputs
        if i not in inside and i.prim.name not in ("full", "const")))
    mapped = [o for o, a in zip(old, axes, strict=True) if a is not None]
    stand_in = {n: placeholder(n.type) for n in (*mapped, *shared)}
    called = dict(zip(old, names, strict=True))
    body = Graph(tuple(stand_in.values()), tuple(walk.substitute(outputs, stand_in)),
                 tuple(called.get(n, f"shared{i}") for i, n in enumerate(stand_in)), name=name)
    new_of = dict(zip(old, new, strict=True))
    arguments = [new_of[n] for n in mapped] + walk.substitute(shared, whole)
    node = chunked(*arguments, graph=body, dim=dim, size=size, total=total,
                   in_axes=(*(a for a in axes if a is not None), *(None for _ in shared)),
                   out_axes=(*(None for _ in range(n_sums)), *(o.shape.index(dim) for o in outputs[n_sums:])))
    return parts(node)


def _mixes(name: str, node: Node, why: str, instead: str = "Compute it within the example") -> BatchError:
    operands = ", ".join(str(i.type) for i in node.inputs)
    return BatchError(
        f"{node.where}: microbatch({name}): {node.prim.name}({operands}) -> {node.type} mixes examples: {why}. "
        f"{instead}, or give the whole batch at once.")
