"""A graph as a page of text."""

from __future__ import annotations

from typing import Any

import numpy as np

_INLINE = 4  # constant arrays of at most this many elements are printed in full


def node_names(graph: Any) -> dict[Any, str]:
    """Return the name that each node has on the page: its argument's, or ``%3``."""
    names = dict(zip(graph.inputs, graph.names, strict=True))
    numbered = (n for n in graph.nodes if n not in names and not is_literal(n))
    names |= {n: f"%{i}" for i, n in enumerate(numbered, 1)}
    return names | {n: literal(n) for n in graph.nodes if is_literal(n)}


def is_literal(node: Any) -> bool:
    """Tell whether `node` is printed as a number where it is used."""
    return node.prim.name == "full"


def literal(node: Any) -> str:
    """Return a constant's number, as short as it can be read back."""
    value = node.params["value"]
    return repr(value) if not isinstance(value, float) else np.format_float_positional(
        node.dtype.type(value), trim="0") if 1e-4 <= abs(value) < 1e6 or value == 0 else repr(value)


def format_value(value: Any) -> str:
    """Return a static parameter as it is printed."""
    if isinstance(value, np.ndarray):
        flat = " ".join(f"{v:.6g}" if value.dtype.kind == "f" else str(v) for v in value.ravel()[:_INLINE])
        return f"[{flat}{' …' if value.size > _INLINE else ''}]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(format_value, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, np.dtype):
        return value.name
    if hasattr(value, "nodes"):
        return f"<graph {value.name}>"
    return repr(value)


def format_node(node: Any, names: dict[Any, str]) -> str:
    """Return ``mul(x, 2.0)``: what computes the node, from what."""
    words = [names[i] for i in node.inputs]
    words += [f"{k}={format_value(v)}" for k, v in node.params.items() if k not in node.prim.hidden_params]
    return f"{node.prim.name}({', '.join(words)})"


def format_graph(graph: Any, indent: str = "") -> str:
    """Return the page: a header, a line per node with its type and the user's line, the results."""
    names = node_names(graph)
    head = ", ".join(f"{name}: {n.type}" for n, name in zip(graph.inputs, graph.names, strict=True))
    lines = [f"{graph.name}({head})"]
    lines += [f"  # {note}" for note in graph.notes]
    rows = []
    for n in graph.nodes:
        if n.prim.name == "input" or is_literal(n):
            continue
        tags = " ".join((n.where, *n.rules))
        rows.append((f"  {names[n]}: {n.type}", format_node(n, names), tags, n))
    left = min(max((len(r[0]) for r in rows), default=0), 34)
    middle = min(max((len(r[1]) for r in rows), default=0), 60)
    for a, b, tags, n in rows:
        lines.append(f"{a:<{left}} = {b:<{middle}}  # {tags}")
        for value in n.params.values():
            if hasattr(value, "nodes"):
                lines.append(format_graph(value, indent="      ").rstrip())
    results = [f"{label}={names[n]}" if len(graph.outputs) > 1 else names[n]
               for label, n in zip(graph.out_names, graph.outputs, strict=True)]
    lines.append(f"  return {', '.join(results)}")
    return "\n".join(indent + line for line in lines)
