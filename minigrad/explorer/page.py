"""The page as one HTML file: styles, scripts and data in it, and no link to anything outside."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from ..graph import Graph, held_graphs
from ..primitive import Primitive
from . import kernels
from .columns import Tables
from .record import Record

EDITABLE = 1_000_000  # elements of all nodes of a stage that the page evaluates anew after each edit
SCRIPTS = ("engine.js", "data.js", "examples.js", "layers.js", "layout.js", "archive.js", "view.js")


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def page(title: str, stages: Sequence[Record], arrays: Sequence[Record], prims: Iterable[Primitive],
         program: str = "", bodies: Sequence[Record] = (), examples: Record | None = None) -> str:
    """Return the HTML of a page.

    Parameters
    ----------
    title : str
    stages, arrays : sequences of dict
        Of `record.stage_record` and `record.Arrays`.
    prims : iterable of Primitive
        The operations in the stages.
    program : str
        The text of the program that runs.
    bodies : sequence of dict
        The stages of graphs that nodes hold, with the values of each run.
    examples : dict, optional
        The arguments, and the examples in them, by a function of `held`.
    """
    prims, tables = set(prims), Tables()
    data = {"title": title, "arrays": list(arrays), "program": program, "examples": examples, "limit": EDITABLE,
            "stages": [_packed(s, tables) for s in stages], "bodies": [_packed(s, tables) for s in bodies],
            "tables": tables.records, "play": [_editable(stage, arrays, prims, bodies) for stage in stages]}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · minigrad</title>
<style>{_asset("explorer.css")}</style>
</head>
<body class="minigrad">
<div id="explorer"></div>
<noscript>This page draws a graph by JavaScript, which is switched off.</noscript>
<script type="application/json" id="data">{text}</script>
<script>const KERNELS = {kernels.functions(prims)};</script>
{"".join(f"<script>{_asset(name)}</script>" for name in SCRIPTS)}
</body>
</html>
"""


def _packed(stage: Record, tables: Tables) -> Record:
    return stage | {"nodes": tables.columns(stage["nodes"])}


def evaluable(graph: Graph) -> bool:
    """Return whether the page has functions for all operations of a graph, and of the graphs that its nodes hold."""
    prims = {n.prim for n in graph.nodes} - {n.prim for n in graph.inputs}
    return all(map(_known, prims)) and all(evaluable(g) for n in graph.nodes for _, g in held_graphs(n))


def _known(prim: Primitive) -> bool:
    return prim.name in operations() or kernels.javascript(prim) is not None


def _editable(stage: Record, arrays: Sequence[Record], prims: set[Primitive], bodies: Sequence[Record]) -> bool:
    """Tell whether the page can evaluate a stage: it knows all operations, and holds inputs and constants in full."""
    if any("part" in arrays[stage["nodes"][i]["value"]] for i in stage["inputs"]):
        return False
    size: int = sum(math.prod(node.get("shape", ())) for node in stage["nodes"])
    return size <= EDITABLE and _evaluable(stage["nodes"], {p.name: p for p in prims}, bodies)


def _evaluable(nodes: Sequence[Record], prims: Mapping[str, Primitive], bodies: Sequence[Record]) -> bool:
    for node in nodes:
        prim, held = prims[node["op"]], node.get("held", ())
        if "input" not in node:
            if not _known(prim) or (node.get("dtype") in _NARROW and prim.kind not in ("leaf", "view")):
                return False
            if node["op"] == "const" and not isinstance(node.get("params", {}).get("value"), dict):
                return False
        if "wide" in node or any("body" not in h for h in held):
            return False
        if not all(_evaluable(bodies[h["body"]]["nodes"], prims, bodies) for h in held):
            return False
    return True


@functools.cache
def operations() -> frozenset[str]:
    """Return the operations of `assets/engine.js` besides kernel expressions, read from its tables."""
    text = _asset("engine.js")
    table = text[text.index("const OPERATIONS"):]
    return frozenset(re.findall(r"^  (\w+): \(", table, re.MULTILINE) + re.findall(r'\["(\w+)", "\w+"\]', table))


# Dtypes that overflow before a number of the page does.
_NARROW = frozenset(("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"))
