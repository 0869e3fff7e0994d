"""Automatic batching: equal operations of a literal graph become one operation on stacked operands.

A literal graph repeats an operation once per example, or once per node of a tree. `autobatch` groups operations that
are equal, have operands of equal types, and do not depend on each other; each group becomes the batch of one of its
operations. This needs no batch axis, and no equal structure of the examples.

Groups are formed along the graph: of all operations that are ready, those come first whose kind has the lowest average
depth. This is the order of G. Neubig, Y. Goldberg, C. Dyer: On-the-fly operation batching in dynamic computation
graphs (2017). Groups by depth alone are those of M. Looks et al.: Deep learning with dynamic computation graphs (2017).

Each value of the literal graph becomes a row of an array (`stacked_rows`). A group reads rows of one array as the
array, a slice, or a gather; rows of several arrays are joined first. An element ``x[i]`` is a row as it is, and a chain
of additions is one sum (`batch_tasks`).
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import optree

from ..errors import BatchError, Unsupported, at_user_line, format_structure
from ..graph import Graph, InAxes, Node
from ..interpreters import rebuilt, substitute
from ..ops.constants import constant
from ..ops.elementwise import add
from ..ops.index import scatter_add
from ..ops.reduce import sum_
from ..ops.shape import reshape
from ..primitive import move_axis, placeholder, rule
from ..tracing import made_by, number
from ..transforms.graph_forms import in_tree, out_tree
from .batch_tasks import Program, Task
from .stacked_rows import Row, Rows, reshaped


def autobatch(graphs: Graph | Sequence[Graph], in_axes: InAxes = 0) -> Graph:
    """Discover the batches in a literal graph: equal operations become one on stacked operands.

    The graph of n copies (`unroll`) becomes that of an axis (`vmap`). Examples of different structure, each traced by
    its own recursion, become one program, too.

    Parameters
    ----------
    graphs : Graph or sequence of Graph
        One literal graph; or one graph per example, with as many arguments and results of equal types.
    in_axes : int, None, or a tuple of them
        For several graphs, one entry per argument: None, the examples share it; 0, each has its own.

    Returns
    -------
    Graph
        Of one graph: with the same arguments and results. Of several: shared arguments stay as they are, each other
        one is the tuple of those of the examples, and each result is the stack of theirs, with the examples along
        axis 0. Sums of several terms are added in another order; other values are those of `vmap`.

    Raises
    ------
    BatchError
        Without a graph; if results or shared arguments of the graphs have different types; if `in_axes` does not fit.

    Examples
    --------
    >>> def loss(w, x):
    ...     return np.sum(np.tanh(x @ w))
    >>> copies = mg.trace(loss)(mg.f64[3, 2], mg.f64[3]).unroll(20, in_axes=(None, 0))
    >>> batch = mg.autobatch(copies)
    >>> copies.count(), batch.count()
    (121, 6)

    A recursion over trees, one graph per tree:

    >>> def value(w, tree):
    ...     if isinstance(tree, tuple):
    ...         return np.tanh(w * (value(w, tree[0]) + value(w, tree[1])))
    ...     return tree
    >>> trees = [((1.0, 2.0), 3.0), (1.0, (2.0, (3.0, 4.0)))]
    >>> g = mg.autobatch([mg.trace(value)(0.5, tree) for tree in trees], in_axes=(None, 0))
    >>> gradient = mg.compile(g.mean().grad("w"))(0.5, tuple(trees))
    """
    if isinstance(graphs, Graph):
        if not isinstance(in_axes, int) or in_axes != 0:
            raise BatchError(at_user_line(f"autobatch: one graph has no in_axes, got {in_axes}. Pass a list of graphs"))
        count = graphs.count()
        ends = graphs.outputs
        return _noted(graphs.replace(outputs=_batched(graphs, lambda rows: [rows.value(rows[n]) for n in ends])), count)
    graphs = list(graphs) if isinstance(graphs, Iterable) else []
    if not graphs or not all(isinstance(g, Graph) for g in graphs):
        raise BatchError(at_user_line("autobatch takes a graph, or a sequence of one graph per example: "
                                      "mg.trace(f)(*arguments)"))
    return _of_examples(graphs, in_axes)


def _noted(graph: Graph, count: int) -> Graph:
    return graph.replace(notes=(*graph.notes, f"autobatch: {count} operations became {graph.count()}"))


def _batched(graph: Graph, results: Callable[[Rows], Sequence[Node]]) -> tuple[Node, ...]:
    """Batch the equal operations of a graph, and return the nodes that `results` reads from its values."""
    program = Program(graph)
    rows = Rows(program.elements)
    computed: dict[Hashable, Node] = {}
    with made_by("autobatch") as working_on:
        for group in program.in_order():
            new, repeated = [], []
            for task in group:
                same = computed.setdefault((task.kind, *(rows[i] for i in task.read)), task.node)
                if same is task.node:
                    new.append(task)
                else:
                    repeated.append((task.node, same))
            for part in _whole_arrays(new, rows):
                working_on(part[0].node)
                _compute(part, rows)
            for node, same in repeated:
                rows.copy(node, same)
        if graph.outputs:
            working_on(graph.outputs[0])
        return tuple(results(rows))


def _whole_arrays(tasks: list[Task], rows: Rows) -> Iterator[list[Task]]:
    """Divide a group: operations that read all rows of the same arrays, in the same order, need no joined copy."""
    by_arrays: dict[Hashable, list[Task]] = defaultdict(list)
    for task in tasks:
        read = [rows[i] for i in task.read]
        by_arrays[tuple(r if r.position is None else r.array for r in read)].append(task)
    others = []
    for part in by_arrays.values():
        if len(by_arrays) > 1 and _reads_whole_arrays(part, rows):
            yield part
        else:
            others += part
    if others:
        yield others


def _reads_whole_arrays(tasks: list[Task], rows: Rows) -> bool:
    """Return whether each operand is one row for all tasks, or row k of its array for task k."""
    if tasks[0].summed:  # terms
        terms = [rows[i] for t in tasks for i in t.read]
        return len(set(terms)) == len(terms) and {r.array for r in terms} == {terms[0].array} and (
            len(terms) == terms[0].array.shape[0])
    if len(tasks) == 1:
        return False
    own = [[rows[i] for i in t.read] for t in tasks]
    own.sort(key=lambda column: [_place(r) for r in column])
    return all(all(r == column[0] for r in column) or
               ([r.position for r in column] == [*range(len(tasks))] and column[0].array.shape[0] == len(tasks))
               for column in zip(*own, strict=True))


def _compute(tasks: list[Task], rows: Rows) -> None:
    """Compute operations of equal keys by one batch; one alone stays as it is."""
    if tasks[0].summed:
        _sum(tasks, rows)
        return
    operands = [[rows[i] for i in t.read] for t in tasks]
    node, n = tasks[0].node, len(tasks)
    varied = [any(r != column[0] for r in column) for column in zip(*operands, strict=True)]
    if n > 1:
        # The order of the tasks is free; that of the rows they read makes stacks slices.
        order = sorted(range(n), key=lambda k: [_place(r) for r, v in zip(operands[k], varied, strict=True) if v])
        tasks, operands = [tasks[k] for k in order], [operands[k] for k in order]
        inputs = [rows.stack(column) if v else rows.value(column[0])
                  for column, v in zip(zip(*operands, strict=True), varied, strict=True)]
        try:
            result = rule(node, "batch")(n, varied, *inputs, **node.params)
        except Unsupported:  # an operation without a batch rule is computed one by one
            pass
        else:
            if isinstance(result, Node) and result.prim is reshape:
                result = reshaped(result, result.shape)
            rows.add([t.node for t in tasks], result, stacked=True)
            return
    for task, own in zip(tasks, operands, strict=True):
        rows.add([task.node], rebuilt(task.node, tuple(map(rows.value, own))), stacked=False)


def _place(row: Row) -> tuple[int, int]:
    return row.array.serial, row.position or 0


def _sum(tasks: list[Task], rows: Rows) -> None:
    """Compute sums: one of all terms; several along an axis where they have equally many terms, else by segments."""
    if (axis := tasks[0].rows) is not None:
        (task,) = tasks
        rows.add([task.node], _placed(task, axis, rows), stacked=False)
        return
    counts = [len(t.operands) for t in tasks]
    shape = tasks[0].node.shape
    terms = [row for t in tasks for row in sorted(map(rows.__getitem__, t.read), key=_place)]
    if len(tasks) == 1:
        arrays = Counter(r.array for r in terms if r.position is not None)
        whole = len(set(terms)) == len(terms) == arrays.total() and all(a.shape[0] == n for a, n in arrays.items())
        parts = list(arrays) if whole else [rows.stack(terms)]
        total = functools.reduce(add, [sum_(a, axes=(0,)) for a in parts])
    elif len(set(counts)) == 1:
        total = sum_(reshaped(rows.stack(terms), (len(tasks), counts[0], *shape)), axes=(1,))
    else:
        total = scatter_add(rows.stack(terms), constant(np.repeat(np.arange(len(tasks)), counts)),
                            shape=(len(tasks), *shape))
    rows.add([t.node for t in tasks], total, stacked=len(tasks) > 1)


def _placed(task: Task, axis: int, rows: Rows) -> Node:
    """Return the sum of terms that fill one position each along an axis."""
    shape, size = task.node.shape, number(task.node.shape[axis])
    places = [t.params["low"][axis] for t in task.operands]
    order = sorted(range(len(places)), key=places.__getitem__)
    terms = rows.stack([rows[task.read[k]] for k in order])
    others = (*shape[:axis], *shape[axis + 1:])
    terms = reshaped(terms, (len(order), *others))
    places.sort()
    if places != list(range(size)):
        terms = scatter_add(terms, constant(np.asarray(places)), shape=(size, *others))
    return move_axis(terms, 0, axis)


# -- several graphs ----------------------------------------------------------------------------------------------


class _Argument(NamedTuple):
    """One argument of a graph: its leaves, their names, and its pytree."""

    leaves: tuple[Node, ...]
    names: tuple[str, ...]
    tree: optree.PyTreeSpec


def _of_examples(graphs: list[Graph], in_axes: InAxes) -> Graph:
    """Return the batched graph of one graph per example."""
    first = graphs[0]
    count = in_tree(first).child(0).num_children
    axes = list(in_axes) if isinstance(in_axes, (tuple, list)) else [in_axes] * count
    if any(a is not None and (not isinstance(a, int) or isinstance(a, bool) or a != 0) for a in axes):
        raise BatchError(at_user_line(
            f"autobatch: an entry of in_axes is None (shared) or 0 (each example has its own), got {in_axes}"))
    for k, graph in enumerate(graphs):
        if out_tree(graph) != out_tree(first):
            raise BatchError(at_user_line(
                f"autobatch: the results of graph 0 and graph {k} have different structures: "
                f"{format_structure(out_tree(first))} and {format_structure(out_tree(graph))}"))
        if [n.type for n in graph.outputs] != [n.type for n in first.outputs]:
            raise BatchError(at_user_line(f"autobatch: the results of graph 0 and graph {k} have different types: "
                                          f"{_types(first.outputs)} and {_types(graph.outputs)}"))
    literal, outputs = _beside_each_other(graphs, [a is None for a in axes])
    stacks = _batched(literal, lambda rows: [rows.stack([rows[n] for n in own]) for own in zip(*outputs, strict=True)])
    return _noted(literal.replace(outputs=stacks, out_tree=out_tree(first)), literal.count())


def _beside_each_other(graphs: list[Graph], shared: Sequence[bool]) -> tuple[Graph, list[list[Node]]]:
    """Return one graph of several, which have some arguments in common, and the outputs of each."""
    arguments = [_arguments(graph, k, len(shared)) for k, graph in enumerate(graphs)]
    # The graphs may share nodes, inputs among them: each gets inputs of its own.
    fresh = [[_fresh(a) for a in own] for own in arguments]
    joined = [own[0] if common else _tuple_of(own)
              for own, common in zip(zip(*fresh, strict=True), shared, strict=True)]
    outputs = []
    for k, (graph, own, new) in enumerate(zip(graphs, arguments, fresh, strict=True)):
        pairs = [_same(arguments[0][p], own[p], joined[p].leaves, p, k) if common else
                 zip(own[p].leaves, new[p].leaves, strict=True) for p, common in enumerate(shared)]
        outputs.append(substitute(graph.outputs, {old: to for part in pairs for old, to in part}))
    tree = optree.treespec_tuple([optree.treespec_tuple([a.tree for a in joined]), optree.treespec_dict()])
    graph = Graph(tuple(n for a in joined for n in a.leaves), tuple(n for own in outputs for n in own),
                  tuple(name for a in joined for name in a.names), in_tree=tree, name=graphs[0].name)
    return graph, outputs


def _fresh(argument: _Argument) -> _Argument:
    return argument._replace(leaves=tuple([placeholder(n.types[0]) for n in argument.leaves]))


def _same(first: _Argument, own: _Argument, inputs: Sequence[Node], p: int, k: int) -> Iterator[tuple[Node, Node]]:
    """Return pairs of the leaves of argument `p` of graph `k` and the inputs that all graphs share."""
    if own.tree != first.tree or [n.type for n in own.leaves] != [n.type for n in inputs]:
        raise BatchError(at_user_line(f"autobatch: argument {p} is shared, and differs between graph 0 and graph {k}: "
                                      f"{_types(first.leaves)} and {_types(own.leaves)}"))
    return zip(own.leaves, inputs, strict=True)


def _tuple_of(examples: Sequence[_Argument]) -> _Argument:
    """Return the argument that is the tuple of the examples' own ones: ``tree[3].left`` is a leaf of example 3."""
    names = (_NAME.sub(rf"\g<0>[{k}]", name, count=1) for k, a in enumerate(examples) for name in a.names)
    return _Argument(tuple(n for a in examples for n in a.leaves), tuple(names),
                     optree.treespec_tuple([a.tree for a in examples]))


_NAME = re.compile(r"^\w+")


def _arguments(graph: Graph, k: int, count: int) -> list[_Argument]:
    """Return the arguments of graph `k`."""
    args, kwargs = in_tree(graph).children()
    if kwargs.num_children or args.num_children != count:
        raise BatchError(at_user_line(
            f"autobatch: in_axes has {count} entries, but graph {k}, {graph.name}, has {args.num_children} positional "
            f"arguments and {kwargs.num_children} by keyword. Trace all of them by position"))
    ends = [0, *itertools.accumulate(tree.num_leaves for tree in args.children())]
    return [_Argument(graph.inputs[i:j], graph.names[i:j], tree)
            for i, j, tree in zip(ends, ends[1:], args.children(), strict=False)]


def _types(nodes: Iterable[Node]) -> str:
    return ", ".join(str(n.type) for n in nodes) or "none"
