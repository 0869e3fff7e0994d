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
    head = _heads(nodes, set(graph.outputs)) if len(nodes) > room else {n: n for n in nodes}
    members = _members(head)
    shown = _shown([n for n in nodes if n in members], members, inputs, room)
    index = {n: i for i, n in enumerate(shown)}
    outputs = [(label, n) for label, n in zip(graph.out_names, graph.outputs, strict=True)
               if is_literal(n) or head[n] in index]
    notes = []
    if len(shown) < len(members):
        notes.append(f"showing the first {len(shown):,} of {len(members):,} boxes")
    if len(outputs) > room:
        notes.append(f"showing the first {room:,} of {len(outputs):,} results")
        outputs = outputs[:room]

    boxes: list[Box] = []
    edges: list[tuple[int, int]] = []
    holders = sum(1 for n in shown for _ in held_graphs(n))
    share = (room - len(shown)) // holders if holders else 0
    for n in shown:
        box = _box(graph, members[n], n in inputs, names, words)
        box.held = [(key, picture(held, share, words)) for key, held in held_graphs(n) if share >= 4]
        boxes.append(box)
        sources = [index[head[i]] for m in members[n] for i in m.inputs
                   if not is_literal(i) and head[i] is not n and head[i] in index]
        edges += [(s, index[n]) for s in (dict.fromkeys(sources) if len(members[n]) > 1 else sources)]
    for label, n in outputs:
        box = Box("output", label, graph.role(n), type=words.type(n.type))
        if is_literal(n):
            box.label += f" = {names[n]}"
        else:
            box.tip = f"result: {names[n]}"
            edges.append((index[head[n]], len(boxes)))
        boxes.append(box)
    tops = [index[n] for n in graph.inputs if n in index]
    ranks = rank(len(boxes), edges, tops, range(len(shown), len(boxes)))
    edges = _shorten(boxes, edges, ranks, [names[n] for n in shown])
    return Picture(boxes, edges, ranks, "; ".join(notes))


def _heads(nodes: Sequence[Node], outputs: set[Node]) -> dict[Node, Node]:
    """Return the node in whose box each node is drawn: chains of elementwise nodes share that of their last one."""
    users: Counter[Node] = Counter()
    user: dict[Node, Node] = {}
    for n in nodes:
        for i in set(n.inputs):
            users[i] += 1
            user[i] = n
    head: dict[Node, Node] = {}
    for n in reversed(nodes):
        one = users[n] == 1 and n not in outputs and n.prim.kind == user[n].prim.kind == "elementwise"
        head[n] = head[user[n]] if one else n
    return {n: head[n] for n in nodes}


def _members(head: dict[Node, Node]) -> dict[Node, list[Node]]:
    """Return the nodes in each box, in order."""
    members: dict[Node, list[Node]] = {}
    for n, last in head.items():
        members.setdefault(last, []).append(n)
    return members


def _shown(heads: Sequence[Node], members: dict[Node, list[Node]], inputs: set[Node], room: int) -> list[Node]:
    """Return the boxes to draw: the first ones if there are more than `room`, with inputs just before their use."""
    if len(heads) <= room:
        return list(heads)
    shown: dict[Node, None] = {}
    for n in heads:
        if n not in inputs:
            shown |= dict.fromkeys(i for m in members[n] for i in m.inputs if i in inputs)
            shown[n] = None
        if len(shown) >= room:
            break
    shown |= dict.fromkeys(heads)
    return list(shown)[:room]


def _shorten(boxes: list[Box], edges: list[tuple[int, int]], ranks: list[int],
             names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the edges, with a tag of the value's name above its user in place of one across many layers."""
    kept: list[tuple[int, int]] = []
    tags: dict[tuple[int, int], int] = {}
    for u, v in edges:
        if ranks[v] - ranks[u] > _FAR:
            if (u, v) not in tags:
                tags[u, v] = len(boxes)
                boxes.append(Box("tag", names[u], boxes[u].role, tip=f"{names[u]}: {boxes[u].type}, from above"))
                ranks.append(ranks[v] - 1)
            u = tags[u, v]
        kept.append((u, v))
    return kept


# -- labels -------------------------------------------------------------------------------


def _box(graph: Graph, members: Sequence[Node], is_input: bool, names: dict[Node, str], words: Words) -> Box:
    n = members[-1]
    type_, role, name = words.type(n.type), graph.role(n), names[n]
    if is_input:
        box = Box("input", name, role, type=type_, tip=f"{name}: {type_}\n{role} input")
    elif len(members) > 1:
        symbols = " ".join(dict.fromkeys(map(_symbol, members)))
        lines = [f"{names[m]} = {words.call(m, names)}" for m in members[:20]]
        lines += [f"… and {len(members) - 20:,} more"] if len(members) > 20 else []
        box = Box("op", f"{len(members):,} elementwise: {symbols}", role, name, type_, n.where, "\n".join(lines), True)
    else:
        rules = f"made by {format_rules(n)}" if n.rules else "as written"
        tip = f"{name} = {words.call(n, names)}\n{type_}\n{n.where}\n{rules} ({role})"
        box = Box("op", _label(n, names, words), role, name, type_, n.where, tip, n.prim.laws.commutative)
    if n in graph.value_words:
        box.type += f" {graph.value_words[n]}"
    return box


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
