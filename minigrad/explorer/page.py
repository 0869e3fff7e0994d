"""The page as one HTML file: styles, scripts and data in it, and no link to anything outside."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from ..primitive import Primitive
from . import kernels

EDITABLE = 300_000  # elements of all nodes of a stage that the page evaluates anew after each edit


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def page(title: str, stages: Sequence[dict[str, Any]], arrays: Sequence[dict[str, Any]], prims: Iterable[Primitive],
         program: str = "", bodies: Sequence[dict[str, Any]] = ()) -> str:
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
    """
    prims = set(prims)
    data = {"title": title, "stages": list(stages), "arrays": list(arrays), "program": program, "bodies": list(bodies),
            "play": [_editable(stage, arrays, prims) for stage in stages]}
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
<script>/* dagre: {escape(_asset("dagre.LICENSE").splitlines()[0])}, MIT License */
{_asset("dagre.min.js")}</script>
<script>{_asset("engine.js")}
const KERNELS = {kernels.functions(prims)};</script>
<script>{_asset("view.js")}</script>
</body>
</html>
"""


def _editable(stage: dict[str, Any], arrays: Sequence[dict[str, Any]], prims: set[Primitive]) -> bool:
    """Tell whether the page can evaluate a stage: it knows all operations, and holds inputs and constants in full."""
    known = OPERATIONS | {p.name for p in prims if kernels.javascript(p) is not None}
    for node in stage["nodes"]:
        if "value" not in node or "wide" in node or (node["op"] not in known and "input" not in node):
            return False
        if node["op"] in _MACHINE or (node["dtype"] in _NARROW and node["op"] not in _EXACT and "input" not in node):
            return False
        if "input" in node and "part" in arrays[node["value"]]:
            return False
        if node["op"] == "const" and not isinstance(node.get("params", {}).get("value"), dict):
            return False
    size: int = sum(math.prod(node["shape"]) for node in stage["nodes"])
    return size <= EDITABLE


# The operations of `assets/engine.js` besides kernel expressions.
OPERATIONS = frozenset((
    "full", "const", "iota", "size", "barrier", "stop_gradient", "cast", "expand", "mean", "argmax", "argmin",
    "reshape", "transpose", "slice", "flip", "pad", "concatenate", "gather", "scatter_add", "gather_sum",
    "einsum", "segment_ids", "argsort", "sum", "max", "min", "any", "all", "max_or_least", "min_or_largest",
    "cumsum", "cummax", "cummin"))


# Operations on the integers of the machine: on bits, and on dtypes that overflow before a number of the page does.
_MACHINE = frozenset((
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "gcd", "lcm"))
_NARROW = frozenset(("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"))
_EXACT = OPERATIONS - {"cast", "sum", "cumsum", "einsum", "scatter_add", "gather_sum"} | {"where", "maximum", "minimum"}


def framed(html: str) -> str:
    """Return the page in a frame for a notebook's cell."""
    return (f'<iframe class="minigrad-explorer" srcdoc="{escape(html)}" sandbox="allow-scripts allow-downloads" '
            'style="width:100%;height:640px;border:1px solid #ccc" title="minigrad explorer"></iframe>')
