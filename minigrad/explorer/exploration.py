"""`explore`: the stages of a loss on its data, as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import optree

from ..draw import open_text
from ..draw.notebook import cell, framed, image
from ..draw.values import input_arrays, input_sizes
from ..errors import BatchError, TraceError, Unsupported, at_user_line
from ..graph import Graph, InAxes, Node, PyTree, held_graphs
from ..ragged.batch import Batch, is_batch
from ..report.ragged import packed_lists
from ..report.variants import example_arguments
from ..tracebacks import boundary
from ..transforms.arguments_by_name import positional_axes
from ..transforms.example_arguments import ExampleArguments
from ..transforms.grad import grad
from ..transforms.mean import mean_loss
from ..transforms.static_arguments import bound_static
from ..transforms.symbolic_trace import trace
from ..transforms.vmap import vmap
from . import held, page
from .record import Arrays, Record, stage_record
from .stages import EACH, TANGENT, GraphStage, number, of_function, of_loss

EXAMPLES = 16  # examples that a page shows, at most
COPIES = 3  # copies in the literal mini-batch


@dataclass(frozen=True, eq=False)
class Exploration:
    """A page about a program. `save` writes it, `open` shows it in a browser; a notebook shows it in its cell.

    Attributes
    ----------
    title : str
    stages : tuple of GraphStage
        The graphs on the page.
    html : str
        The page: one file without links to anything outside.
    fallback : str
        The static drawing, for notebooks that run no scripts.
    """

    title: str
    stages: tuple[GraphStage, ...]
    html: str
    fallback: str

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the page and return its path.

        Parameters
        ----------
        path : str or path
        """
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.html)
        return os.fspath(path)

    def open(self) -> str:
        """Write the page to a temporary file, open it where there is a browser, and return its path."""
        return open_text(self.html, self.title, ".html")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the page in a frame, and the static drawing for notebooks that run no scripts."""
        html = cell(framed(self.html, f"minigrad: {self.title}"), image(self.fallback))
        return {"text/html": html, "image/svg+xml": self.fallback, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<Exploration of {self.title}: {len(self.stages)} stages>"


@boundary
def explore(loss: Callable[..., PyTree], params: PyTree, examples: PyTree, in_axes: InAxes = None) -> Exploration:
    """Explore how the loss of one example becomes a mini-batch, its gradient and a program.

    Parameters
    ----------
    loss : callable
        The loss of one example, ``loss(params, *example)``, a floating scalar: a function, its `trace`, or a graph.
    params : pytree of arrays
    examples : tuple of arrays, a Batch, or a list of examples
        The data: arrays with one example per row, or a batch of examples that differ in size. The page begins with
        the first 16 of them; its reader chooses others, of up to 1,000 that it holds.
    in_axes : int, None, or tuple of pytrees, optional
        The axis of the examples in each argument; by default None for the first, 0 for the others.

    Returns
    -------
    Exploration
        In a notebook, the last expression of a cell shows it; ``.save("page.html")`` and ``.open()`` elsewhere.

    Raises
    ------
    TraceError
        If the loss is not a floating scalar, or cannot be traced.
    BatchError
        If the examples do not fit `in_axes`.

    Examples
    --------
    >>> import minigrad as mg, numpy as np
    >>> page = mg.explore(lambda w, x: np.sum(np.tanh(x * w)) ** 2, np.ones(3), (np.eye(3),))
    >>> [stage.title for stage in page.stages[:4]]
    ['one example', 'copies', 'batch', 'mean']
    """
    loss = getattr(loss, "untraced", loss)
    more = example_arguments(loss, examples, "explore")
    name = getattr(loss, "__name__", "loss")
    more = packed_lists(more)
    if any(map(is_batch, optree.tree_leaves(more, is_leaf=is_batch))):
        return _ragged(loss, name, (params, *more), in_axes)
    axes = _axes(positional_axes(loss, in_axes, 1 + len(more), "explore"), len(more))
    loss, args = bound_static(loss, (params, *more))
    params, *_ = args
    size = _count(name, args, axes)
    rows = _first(args, axes, None)
    one_args = _first(args, axes, 0)
    one = trace(loss)(*one_args)
    if len(one.outputs) != 1 or one.outputs[0].ndim or not one.outputs[0].type.floating:
        results = ", ".join(str(n.type) for n in one.outputs) or "nothing"
        raise TraceError(
            at_user_line(f"explore({name}): a loss returns one floating scalar, and this one returns {results}")
        )
    copies = min(COPIES, size)
    stages = of_loss(one, axes, copies)
    number(stages)
    leaves = _leaves(rows)
    tangents = [np.ones(np.shape(x)) for x in _leaves(params)]
    feeds = [_leaves(one_args), _leaves(_first(args, axes, slice(copies))),
             *([*leaves, *tangents] if stage.title == TANGENT else leaves for stage in stages[2:])]
    leaf_axes = [a for axis, arg in zip(axes, args, strict=True) for a in _leaf_axes(axis, arg)]
    shown = min(EXAMPLES, size)
    count = shown
    if page.evaluable(stages[2].graph):
        count = held.fitting(size, held.weight(_mapped_leaves(leaves, leaf_axes)) / shown, shown)
    pool = Arrays()
    examples = held.stacked([*_leaves(_first(args, axes, slice(count))), *tangents],
                            [*leaf_axes, *[None] * len(tangents)], size, shown, pool)
    return _page(name, stages, feeds, pool, examples, ["one", "copies"])


def _ragged(loss: Callable[..., PyTree], name: str, args: tuple[PyTree, ...], in_axes: InAxes) -> Exploration:
    axes = (None, *[0] * (len(args) - 1)) if in_axes is None else positional_axes(loss, in_axes, len(args), "explore")
    loss, args = bound_static(loss, args)
    whole = ExampleArguments(args, axes, is_batch)
    if (batches := sum(map(is_batch, whole.parts))) != 1:
        raise BatchError(at_user_line(f"explore({name}): expected one Batch of examples, got {batches}. Put the fields "
                                      "of all into one schema"))
    counts = {len(p) if is_batch(p) else p.shape[a] for p, a in zip(whole.parts, whole.axes, strict=True)
              if a is not None}
    _refuse_counts(name, counts)
    shown = min(EXAMPLES, whole.size)
    first, some = whole.take(0), whole.take(slice(shown))
    example = GraphStage("one example", "The loss of one example, as traced.", trace(loss)(*first))
    losses = trace(vmap(loss, in_axes=axes))(*some)
    packing = GraphStage(
        "batch",
        "The examples lie end to end: one axis for all rows, indices shifted by the rows before.",
        losses,
        example,
    )
    mean = GraphStage("mean", "The mean of the losses.", trace(mean_loss(loss, in_axes=axes))(*some), packing)
    stages = [example, packing, *of_function(mean)]
    if stages[3:] and stages[3].cotangents:
        try:
            each = trace(vmap(grad(loss), in_axes=axes))(*some)
            stages.insert(4, GraphStage("each gradient", EACH, each, packing))
        except (Unsupported, BatchError) as error:  # the page says so, and shows the rest
            mean.note += f" The gradients of single examples cannot be batched: {error}"
    number(stages)
    leaves = _leaves(some)
    count = shown
    if page.evaluable(losses):
        mapped = [x for p, a in zip(whole.parts, whole.axes, strict=True) if a is not None for x in _leaves(p)]
        count = held.fitting(whole.size, held.weight(mapped) / whole.size, shown)
    pool = Arrays()
    of_page = ExampleArguments(whole.take(slice(count)), axes, is_batch)
    examples = held.ragged(of_page.parts, of_page.axes, whole.size, shown, pool)
    examples["indices"] = _indices(whole.parts)
    return _page(name, stages, [_leaves(first), *[leaves] * (len(stages) - 1)], pool, examples, ["first"])


def _indices(parts: Sequence[PyTree]) -> list[Record]:
    """Return the fields that are indices, with the names of the sizes of their axes and targets."""
    found: list[Record] = []
    first = 0
    for part in parts:
        if isinstance(part, Batch):
            present = [name for name, array in part.leaves().items() if array is not None]
            found += [{"name": name, "axis": held.size_name(t.axes[0]), "target": held.size_name(t.target),
                       "input": first + present.index(name)} for name, t in part.schema.fields.items()
                      if t.target is not None and len(t.axes) == 1 and name in present]
        first += len(_leaves(part))
    return found


@boundary
def explore_graph(graph: Graph, values: Sequence[PyTree]) -> Exploration:
    """Explore one graph on values of its inputs; see `Graph.explore`."""
    leaves = input_arrays(graph, values, "explore")
    stages = of_function(GraphStage("graph", "The graph.", graph))
    number(stages)
    pool = Arrays()
    return _page(graph.name, stages, [leaves] * len(stages), pool, held.shared(leaves, pool), [])


def _leaves(tree: PyTree) -> list[np.ndarray]:
    return [np.asarray(x) for x in optree.tree_leaves(tree)]


def _axes(in_axes: InAxes, count: int) -> tuple[InAxes, ...]:
    if in_axes is None:
        return (None, *[0] * count)
    if not isinstance(in_axes, (tuple, list)):
        return (in_axes,) * (count + 1)
    if len(in_axes) != count + 1:
        raise BatchError(
            at_user_line(f"explore: in_axes has {len(in_axes)} entries, and the loss {count + 1} arguments")
        )
    return tuple(in_axes)


def _first(args: tuple[PyTree, ...], axes: tuple[InAxes, ...], rows: int | slice | None) -> tuple[PyTree, ...]:
    """Return the arguments with one example, or with the first ones (None: `EXAMPLES` of them)."""
    part = slice(EXAMPLES) if rows is None else rows

    def take(axis: int, tree: PyTree) -> PyTree:
        return optree.tree_map(lambda x: np.moveaxis(np.moveaxis(np.asarray(x), axis, 0)[part], 0, axis)
                               if isinstance(part, slice) else np.take(np.asarray(x), part, axis), tree)

    return tuple(arg if axis is None else take(axis, arg) if isinstance(axis, int) else _mapped(take, axis, arg)
                 for arg, axis in zip(args, axes, strict=True))


def _mapped(take: Callable[[int, PyTree], PyTree], axes: PyTree, tree: PyTree) -> PyTree:
    """Take rows of a pytree whose axes are given by a prefix of it."""
    return optree.tree_map(lambda axis, part: part if axis is None else take(axis, part), axes, tree,
                           none_is_leaf=True)


def _count(name: str, args: tuple[PyTree, ...], axes: tuple[InAxes, ...]) -> int:
    """Return the number of examples, or raise `BatchError` where there is none, or where arguments disagree."""
    counts = {n for axis, arg in zip(axes, args, strict=True) for n in _lengths(axis, arg)}
    _refuse_counts(name, counts)
    return counts.pop()


def _refuse_counts(name: str, counts: set[int]) -> None:
    """Raise `BatchError` unless there is one number of examples, and it is not 0."""
    if len(counts) == 1 and counts != {0}:
        return
    reason = "in_axes maps no argument" if not counts else "there must be at least one example" if counts == {0} else (
        f"the arguments have {' and '.join(map(str, sorted(counts)))} examples")
    raise BatchError(at_user_line(f"explore({name}): {reason}"))


def _lengths(axis: InAxes, tree: PyTree) -> set[int]:
    if axis is None:
        return set()
    if isinstance(axis, int):
        shapes = [np.shape(x) for x in _leaves(tree)]
        if short := [s for s in shapes if not -len(s) <= axis < len(s)]:
            raise BatchError(at_user_line(f"explore: an argument of shape {short[0]} has no axis {axis} of examples"))
        return {int(s[axis]) for s in shapes}
    return {n for a, part in _pairs(axis, tree) for n in _lengths(a, part)}


def _all_nodes(graph: Graph) -> Iterator[Node]:
    """Return the nodes of a graph and of those that its nodes hold."""
    for node in graph.nodes:
        yield node
        for _, inner in held_graphs(node):
            yield from _all_nodes(inner)


def _leaf_axes(axis: InAxes, tree: PyTree) -> list[int | None]:
    """Return the axis of examples of each leaf of an argument."""
    if axis is None or isinstance(axis, int):
        return [axis] * len(_leaves(tree))
    return [one for a, part in _pairs(axis, tree) for one in _leaf_axes(a, part)]


def _pairs(axes: PyTree, tree: PyTree) -> list[tuple[InAxes, PyTree]]:
    """Return the axes of a prefix of a pytree, each with its part of the tree."""
    pairs: list[tuple[InAxes, PyTree]] = []
    optree.tree_map(lambda a, part: pairs.append((a, part)), axes, tree, none_is_leaf=True)
    return pairs


def _mapped_leaves(leaves: Sequence[np.ndarray], axes: Sequence[int | None]) -> list[np.ndarray]:
    return [x for x, a in zip(leaves, axes, strict=True) if a is not None]


def _page(title: str, stages: list[GraphStage], feeds: Sequence[Sequence[np.ndarray]], pool: Arrays, examples: Record,
          kinds: Sequence[str]) -> Exploration:
    """Return the page; `kinds` tell the first stages, which are not of the whole batch, apart."""
    records: list[Record] = []
    bodies: list[Record] = []
    for k, (stage, leaves) in enumerate(zip(stages, feeds, strict=True)):
        arrays = [np.asarray(x, n.dtype) for x, n in zip(leaves, stage.graph.inputs, strict=True)]
        sizes = input_sizes(stage.graph, arrays)
        records.append(stage_record(stage, arrays, sizes, pool, bodies))
        if stage.before is not None:
            records[-1]["before"] = stages.index(stage.before)
        records[-1]["kind"] = kinds[k] if k < len(kinds) else "batch"
    prims = {n.prim for s in stages for n in _all_nodes(s.graph)}
    program = next(s for s in reversed(stages) if s.note != EACH).graph.source()
    html = page.page(title, records, pool.records, prims, program, bodies, examples)
    return Exploration(title, tuple(stages), html, stages[0].graph.with_values(*feeds[0]).to_svg())
