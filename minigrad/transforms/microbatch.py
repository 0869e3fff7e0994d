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
from ..dims import Dim, size_of, symbols
from ..errors import BatchError, at_user_line
from ..graph import ArrayType, Graph, Node, TupleType, made_by
from ..ops.constants import size_scalar
from ..ops.contract import parse
from ..ops.control import chunked, parts, placeholder
from ..ops.spread import count, expand_to, sum_
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


def _counts_all(node: Node, dim: Dim) -> bool:
    """Tell whether the node is the number of examples, as a value."""
    return node.prim.name == "size" and dim.symbol in node.params["size"].symbols


def _has(node: Node, dim: Dim) -> bool:
    kinds = node.type.parts if isinstance(node.type, TupleType) else (node.type,)
    return any(dim.symbol in symbols(t.shape) for t in kinds)


def _cut(name: str, names: Sequence[str], old: Sequence[Node], new: Sequence[Node], axes: Sequence[int | None],
         outputs: Sequence[Node], dim: Dim, total: int | Dim, size: int) -> list[Node]:
    """Return the outputs as one `chunked` node and what follows it.

    `old` are the inputs that the program was traced with (batch axes of length `dim`), `new` the whole ones.
    """
    # What all examples share need not wait for their cotangents: it is computed before the first chunk.
    while early := {n: n.inputs[0] for n in walk.reachable(outputs) if n.prim.name == "barrier" and not _has(n, dim)
                    and _has(n.inputs[1], dim)}:
        outputs = walk.substitute(outputs, early)
    extra = [n for n in walk.reachable(outputs) if _has(n, dim) or _counts_all(n, dim)]
    region = walk.dependent(outputs, [*old, *extra])
    after: set[Node] = set()  # a value of the batch as a whole, or made of one
    inside: set[Node] = set()  # has the batch axis: runs chunk by chunk
    sums: list[Node] = []  # where the batch axis goes away
    inputs = set(old)
    for node in region:
        if node in inputs or _counts_all(node, dim):
            if _has(node, dim):
                inside.add(node)
            continue
        late = any(i in after for i in node.inputs)
        if node.prim.name == "chunked" and any(i in inside for i in node.inputs):
            raise _mixes(name, node, "it is computed in passes already", "Call microbatch once")
        if _has(node, dim):
            if late:
                raise _mixes(name, node, "it uses a value of the whole batch (a batch statistic), which is known only "
                             "after the last chunk", "Take the gradient outside, mg.grad(mg.microbatch(f, size))"
                             if "vjp" in node.rules else "Compute it within the example")
            why = _not_row_local(node, dim)
            if why:
                raise _mixes(name, node, why)
            inside.add(node)
        elif late:
            after.add(node)
        elif any(i in inside for i in node.inputs):
            if any(_counts(i, dim) for i in node.inputs):
                raise _mixes(name, node, "it counts the examples")
            if not _sums_over(node, dim):
                raise _mixes(name, node, "it reduces the batch axis by something other than a sum or a mean")
            sums.append(node)
            after.add(node)

    whole = {o: n for o, n, a in zip(old, new, axes, strict=True) if a is None}
    whole |= {n: size_scalar(_total(n.params["size"], dim, total), n.dtype) for n in extra if _counts_all(n, dim)}
    results = [n for n in dict.fromkeys(outputs) if n in inside]
    for n in results:
        if _counts(n, dim):
            raise _mixes(name, n, "it counts the examples")
    leaving = [*sums, *results]
    if not leaving:
        return walk.substitute(outputs, whole)
    body_outputs = [_numerator(n) for n in sums] + results
    node, values = _chunk_node(name, names, old, new, axes, inside, body_outputs, whole, len(sums), dim, total, size)
    done = {}
    for old_node, value in zip(leaving, values, strict=True):
        done[old_node] = _divided(old_node, value, dim, total) if old_node.prim.name == "mean" else value
    return walk.substitute(outputs, {**whole, **done})


def _total(size: Dim, dim: Dim, total: int | Dim) -> int | Dim:
    """Return a size with the chunk's length replaced by the whole batch's."""
    out: int | Dim = 0
    for monomial, factor in size.terms:
        term: int | Dim = factor
        for s in monomial:
            term = term * (total if s is dim.symbol else Dim((((s,), 1),)))
        out = out + term
    return out


def _numerator(node: Node) -> Node:
    if node.prim.name != "mean":
        return node
    with made_by("microbatch") as working_on:
        working_on(node)
        return sum_(node.inputs[0], axes=node.params["axes"])


def _divided(node: Node, numerator: Node, dim: Dim, total: int | Dim) -> Node:
    """Return a mean from its numerator: divided once, by the whole batch's denominator."""
    shape = tuple(_total(n, dim, total) if isinstance(n, Dim) else n for n in node.inputs[0].shape)
    n = count(shape, node.params["axes"], node.dtype)
    return numerator / expand_to(n, numerator.shape, tuple(range(numerator.ndim)))


def _chunk_node(name: str, names: Sequence[str], old: Sequence[Node], new: Sequence[Node],
                axes: Sequence[int | None], inside: set[Node], outputs: Sequence[Node], whole: dict[Node, Node],
                n_sums: int, dim: Dim, total: int | Dim, size: int) -> tuple[Node, list[Node]]:
    """Return the `chunked` node of the part of the program that has the batch axis, and its results."""
    body_nodes = {n for n in walk.reachable(outputs) if n in inside} | set(outputs)
    shared = list(dict.fromkeys(
        i for n in sorted(body_nodes, key=lambda n: n.serial) for i in n.inputs
        if i not in inside and i not in body_nodes and i.prim.name not in ("full", "const")))
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
    return node, parts(node)


def _mixes(name: str, node: Node, why: str, instead: str = "Compute it within the example") -> BatchError:
    operands = ", ".join(str(i.type) for i in node.inputs)
    return BatchError(
        f"{node.where}: microbatch({name}): {node.prim.name}({operands}) -> {node.type} mixes examples: {why}. "
        f"{instead}, or give the whole batch at once.")


# -- what a node does along the batch axis -----------------------------------------------------------------


def _axis(t: ArrayType, dim: Dim) -> int | None:
    """Return the one axis of length `dim`, or None if there is another number of them."""
    places = [a for a, n in enumerate(t.shape) if n == dim]
    return places[0] if len(places) == 1 and sum(dim.symbol in symbols((n,)) for n in t.shape) == 1 else None


def _sums_over(node: Node, dim: Dim) -> bool:
    """Tell whether the node sums the batch axis away, so that chunks' results add up."""
    kind = node.prim.name
    if kind in ("sum", "mean"):
        return _axis(node.inputs[0].type, dim) is not None
    if kind == "einsum":
        # The operands that have the batch axis have it under one subscript.
        terms, _ = parse(node.params["subscripts"])
        letters = {s[a] if (a := _axis(i.type, dim)) is not None else None
                   for s, i in zip(terms, node.inputs, strict=True) if _has(i, dim)}
        return len(letters) == 1 and None not in letters
    # Rows of the batch added up by an index; every index and update has the axis, or the chunk would repeat it.
    return kind == "scatter_add" and all(_axis(i.type, dim) is not None for i in node.inputs)


def _not_row_local(node: Node, dim: Dim) -> str | None:
    """Return why the node's examples are not each other's strangers, or None where they are."""
    kind, params = node.prim.name, node.params
    if kind not in ("gather", "scatter_add", "scatter_max", "scatter_min",
                    "expand") and any(_counts(i, dim) for i in node.inputs):
        return "it counts the examples"
    sources = [_axis(i.type, dim) for i in node.inputs if not isinstance(i.type, TupleType) and _has(i, dim)]
    if None in sources:
        return "an operand has the batch axis twice, or merged with another"
    if kind in ("checkpoint", "custom", "scan", "while"):
        held = [params["graph"]] if kind in ("checkpoint", "custom") else [params["body"]]
        return next(filter(None, (_body_mixes(kind, g, dim) for g in held)), None) or _test_mixes(params, dim)
    if kind == "switch":  # it has examples, each of which goes its own way, or all go one way
        first = node.inputs[0]
        if _has(first, dim):
            return None if set(sources) == {0} and not any(params["sums"]) else "it adds up over the examples"
        bodies = (_body_mixes(kind, g, dim) for g in params["graphs"])
        return next(filter(None, bodies), None)
    if kind == "random_bits":
        return None if sources[0] < node.inputs[0].ndim - 1 else "a key is not a row of the batch"
    if kind in ("cholesky", "solve", "triangular_solve", "inv", "det", "slogdet", "eigh", "qr", "svd", "pinv"):
        ranks = [i.ndim for i in node.inputs if _has(i, dim)]
        ok = all(a < n - 2 for a, n in zip(sources, ranks, strict=True))
        return None if ok else "it works across the batch axis"
    if isinstance(node.type, TupleType):
        return "it is not known to keep examples apart"
    at = _axis(node.type, dim)
    if at is None:
        return "its result has the batch axis twice, or merged with another"
    if node.prim.kind == "elementwise" or kind in ("proj", "expand", "sum", "mean", "max", "min", "any", "all",
                                                   "transpose", "barrier", "full", "slice", "pad"):
        return None
    if kind == "reshape":
        before = size_of(node.inputs[0].shape[:sources[0]])
        return None if before == size_of(node.shape[:at]) else "it moves elements across the batch axis"
    if kind == "einsum":
        terms, out = parse(params["subscripts"])
        letters = {s[_axis(i.type, dim)] for s, i in zip(terms, node.inputs, strict=True) if _has(i, dim)}
        return None if letters == {out[at]} else "it contracts the batch axis and has another one beside it"
    if kind == "iota":
        return None  # who uses it is looked at
    if kind in ("gather", "scatter_add", "scatter_max", "scatter_min"):
        return _lockstep(node, dim)
    along = params.get("axis", params.get("axes"))
    if along is not None:
        touched = along if isinstance(along, tuple) else (along,)
        return "it works along the batch axis" if sources and sources[0] in touched else None
    return "it is not known to keep examples apart"


def _counts(node: Node, dim: Dim) -> bool:
    """Tell whether the node counts along the batch: in a chunk, the count would start anew."""
    while node.prim.name == "expand":
        (node,) = node.inputs
    return node.prim.name == "iota" and node.params["size"] == dim


def _lockstep(node: Node, dim: Dim) -> str | None:
    """Check a gather or scatter: along the batch axis it may only count along (as `vmap` makes it)."""
    array, *indices = node.inputs
    shape = array.shape if node.prim.name == "gather" else node.params["shape"]
    if _counts(array, dim):
        return "it counts the examples"
    if any((n == dim) != _counts(i, dim) for n, i in zip(shape, indices, strict=False)):
        return "it picks examples by an index"
    return None


def _body_mixes(kind: str, body: Graph, dim: Dim) -> str | None:
    """Check the body of a checkpoint or a loop, in which nothing may leave the batch axis."""
    inputs = set(body.inputs)
    late: set[Node] = set()
    for node in body.nodes:
        if node in inputs:
            continue
        if not _has(node, dim):
            if any(_has(i, dim) or i in late for i in node.inputs):
                late.add(node)
        elif (why := _not_row_local(node, dim)) or any(i in late for i in node.inputs):
            return f"in the {kind}, {node.prim.name} at {node.where}: " + (why or "it uses a batch statistic")
    return f"in the {kind}, the batch axis is summed away" if late & set(body.outputs) else None


def _test_mixes(params: dict[str, Any], dim: Dim) -> str | None:
    """Check a loop's test, which may ask at most whether any example goes on."""
    test = params.get("test")
    if test is None or not any(_has(n, dim) for n in test.nodes):
        return None
    (end,) = test.outputs
    asks = end.prim.name == "any" and _axis(end.inputs[0].type, dim) == 0
    apart = asks and not _body_mixes("test", test.replace(outputs=end.inputs), dim)
    return None if apart else "its test mixes examples"
