"""Boxes and edges of a drawing, with their labels.

Constants stand inside the labels of their users. A use far below its value has a tag with the value's name in place of
a long edge. In a large graph each chain of elementwise nodes is one box; a graph that is still too large is cut, with
a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..graph import Graph, Node, held_graphs
from ..text import Words, format_rules, is_literal, literal, node_names
from .layout import rank

ROOM = 600  # boxes in one drawing
_FAR = 10  # layers that an edge may pass


@dataclass(eq=False)
class Box:
    """One box, of kind ``op``, ``input``, ``output`` or ``tag``, with its label and tooltip."""

    kind: str
    label: str
    role: str = ""
    name: str = ""
    type: str = ""
    where: str = ""
    tip: str = ""
    unordered: bool = False
    held: list[tuple[str, Picture]] = field(default_factory=list)


@dataclass(eq=False)
class Picture:
    """Boxes, edges between their indices, the layer of each box, and a note on omitted boxes."""

    boxes: list[Box]
    edges: list[tuple[int, int]]
    ranks: list[int]
    note: str = ""


def picture(graph: Graph, room: int = ROOM, words: Words | None = None) -> Picture:
    """Return the picture of a graph in at most about `room` boxes."""
    words = words or Words()
    names = node_names(graph)
    nodes = [n for n in graph.nodes if not is_literal(n)]
    inputs = set(graph.inputs)
    group = {n: n for n in nodes}  # the node in whose box each is drawn
    if len(nodes) > room:
        group = _fold(nodes, set(graph.outputs))
    shown, total = _choose(nodes, inputs, group, room)
    note = f"showing the first {len(shown):,} of {total:,} boxes" if len(shown) < total else ""
    outputs = [(label, n) for label, n in zip(graph.out_names, graph.outputs, strict=True)
               if is_literal(n) or group[n] in shown]
    if len(outputs) > room:
        note += f"{'; ' if note else ''}showing the first {room:,} of {len(outputs):,} results"
        outputs = outputs[:room]

    holders = sum(1 for n in shown for _ in held_graphs(n))
    share = (room - len(shown)) // holders if holders else 0
    folded: dict[Node, list[Node]] = {}
    for n in nodes:
        if group[n] in shown:
            folded.setdefault(group[n], []).append(n)
    boxes: list[Box] = []
    edges: list[tuple[int, int]] = []
    index: dict[Node, int] = {}
    for n in shown:
        members = folded[n]
        box = _folded_box(graph, members, names, words) if len(members) > 1 else (
            _input_box if n in inputs else _box)(graph, n, names, words)
        if n in graph.value_words:
            box.type += f" {graph.value_words[n]}"
        box.held = [(key, picture(held, share, words)) for key, held in held_graphs(n) if share >= 4]
        index[n] = len(boxes)
        boxes.append(box)
        inside = set(members)
        sources = [group[i] for m in members for i in m.inputs if not is_literal(i) and i not in inside]
        if len(members) > 1:
            sources = list(dict.fromkeys(sources))
        edges += [(index[s], index[n]) for s in sources if s in index]
    results = []
    for label, n in outputs:
        results.append(len(boxes))
        if is_literal(n):
            boxes.append(Box("output", f"{label} = {literal(n)}", graph.role(n), type=words.type(n.type)))
        else:
            edges.append((index[group[n]], len(boxes)))
            boxes.append(Box("output", label, graph.role(n), type=words.type(n.type), tip=f"result: {names[n]}"))
    tops = [index[n] for n in graph.inputs if n in index]
    return _shorten(boxes, edges, rank(len(boxes), edges, tops, results), note, names, index)


def _fold(nodes: Sequence[Node], outputs: set[Node]) -> dict[Node, Node]:
    """Return the node in whose box each node is drawn: chains of elementwise nodes share one."""
    users: Counter[Node] = Counter()
    user: dict[Node, Node] = {}
    for n in nodes:
        for i in set(n.inputs):
            users[i] += 1
            user[i] = n
    group: dict[Node, Node] = {}
    for n in reversed(nodes):
        one = users[n] == 1 and n not in outputs and n.prim.kind == user[n].prim.kind == "elementwise"
        group[n] = group[user[n]] if one else n
    return group


def _choose(nodes: Sequence[Node], inputs: set[Node], group: dict[Node, Node],
            room: int) -> tuple[dict[Node, None], int]:
    """Return the boxes to draw, with inputs just before their first use, and the number of all boxes."""
    heads = [n for n in nodes if group[n] is n]
    if len(heads) <= room:
        return dict.fromkeys(heads), len(heads)
    members: dict[Node, list[Node]] = {}
    for n in nodes:
        members.setdefault(group[n], []).append(n)
    shown: dict[Node, None] = {}
    for n in heads:
        if n not in inputs:
            shown |= dict.fromkeys(i for m in members[n] for i in m.inputs if i in inputs)
            shown[n] = None
        if len(shown) >= room:
            break
    else:
        shown |= dict.fromkeys(heads)
    return dict.fromkeys(list(shown)[:room]), len(heads)


def _shorten(boxes: list[Box], edges: list[tuple[int, int]], ranks: list[int], note: str,
             names: dict[Node, str], index: dict[Node, int]) -> Picture:
    """Replace edges across many layers by tags with the value's name above its user."""
    called = {i: names[n] for n, i in index.items()}
    kept: list[tuple[int, int]] = []
    boxes, ranks = list(boxes), list(ranks)
    tags: dict[tuple[int, int], int] = {}
    for u, v in edges:
        if ranks[v] - ranks[u] > _FAR:
            if (u, v) not in tags:
                tags[u, v] = len(boxes)
                boxes.append(Box("tag", called[u], boxes[u].role, tip=f"{called[u]}: {boxes[u].type}, from above"))
                ranks.append(ranks[v] - 1)
            u = tags[u, v]
        kept.append((u, v))
    return Picture(boxes, kept, ranks, note)


# -- labels -------------------------------------------------------------------------------


def _box(graph: Graph, n: Node, names: dict[Node, str], words: Words) -> Box:
    return Box("op", _label(n, names, words), graph.role(n), names[n], words.type(n.type), n.where,
               _tip(graph, n, names, words), n.prim.laws.commutative)


def _input_box(graph: Graph, n: Node, names: dict[Node, str], words: Words) -> Box:
    type_, role = words.type(n.type), graph.role(n)
    return Box("input", names[n], role, type=type_, tip=f"{names[n]}: {type_}\n{role} input")


def _tip(graph: Graph, n: Node, names: dict[Node, str], words: Words) -> str:
    rules = f"made by {format_rules(n)}" if n.rules else "as written"
    return f"{names[n]} = {words.call(n, names)}\n{words.type(n.type)}\n{n.where}\n{rules} ({graph.role(n)})"


def _folded_box(graph: Graph, members: Sequence[Node], names: dict[Node, str], words: Words) -> Box:
    head = members[-1]
    symbols = " ".join(dict.fromkeys(_symbol(m) for m in members))
    lines = [f"{names[m]} = {words.call(m, names)}" for m in members[:20]]
    lines += [f"… and {len(members) - 20:,} more"] if len(members) > 20 else []
    return Box("op", f"{len(members):,} elementwise: {symbols}", graph.role(head), names[head], words.type(head.type),
               head.where, "\n".join(lines), unordered=True)


def _symbol(n: Node) -> str:
    return n.prim.symbol or n.prim.name


def _label(n: Node, names: dict[Node, str], words: Words) -> str:
    """Return the label of an operation with its constants, such as ``× 2.0`` or ``1.0 − □``."""
    operands = [literal(i) if is_literal(i) else None for i in n.inputs]
    if n.prim.symbol and len(operands) == 2:
        left, right = operands
        if left and not right and n.prim.laws.commutative:
            left, right = right, left
        return " ".join(filter(None, (left, n.prim.symbol, right or ("□" if left else ""))))
    if n.prim.kind == "leaf":
        return words.call(n, names)
    if n.prim.drawn is not None:
        label = n.prim.drawn(n, words.value)
    else:
        held = list(held_graphs(n))
        # The box of a primitive that holds a graph shows numbers alone; the tooltip shows all parameters.
        shown = [_param(k, v, words) for k, v in n.params.items()
                if k not in n.prim.hidden_params and k not in dict(held) and (not held or isinstance(v, int))]
        label = " ".join((_symbol(n), *(h.name for _, h in held), *shown))
    return label + (f"({', '.join(o or '□' for o in operands)})" if any(operands) else "")


def _param(key: str, value: object, words: Words) -> str:
    if key in ("axis", "axes"):
        axes = value if isinstance(value, tuple) else (value,)
        return ("axis " if len(axes) == 1 else "axes ") + ", ".join(map(str, axes))
    return words.value(value) if key == "dtype" else f"{key}={words.value(value)}"
