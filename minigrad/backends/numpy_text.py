"""How each statement reads as a line of NumPy that writes into given memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..dims import Dim, Symbol
from ..errors import printable
from ..graph import PRIMITIVES, Node
from ..ops import order  # noqa: F401  (declares cumulative operations)
from ..ops.index import lockstep
from ..text import literal

INTO = frozenset({"arccosh_slope", "arctan2_slope", "tanh_slope"})  # functions of `ops.elementwise`


def number(node: Node) -> str:
    """Return a constant's value as Python reads it, weakly typed where NumPy's rules then give the node's dtype."""
    value = node.params["value"]
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}[repr(value)]
    return literal(node)


def comment(text: str) -> str:
    """Return `text` as a comment that ends where its line does."""
    return f"# {printable(text)}"


def size_text(n: int | Dim, names: Callable[[Symbol], str]) -> str:
    """Return a size as a Python expression."""
    return n.format(names) if isinstance(n, Dim) else str(n)


def tuple_text(parts: Sequence[str]) -> str:
    """Return a tuple's text."""
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


def axes_text(axes: Sequence[int]) -> str:
    """Return ``1``, or ``(0, 2)``."""
    return str(axes[0]) if len(axes) == 1 else str(tuple(axes))


def spread_text(base: str, ndim: int, axes: Sequence[int]) -> str:
    """Return `base` indexed such that NumPy's broadcasting repeats it along `axes`."""
    marks = ["None" if a in axes else ":" for a in range(ndim)]
    while marks and marks[0] == "None":
        del marks[0]
    return f"{base}[{', '.join(marks)}]" if "None" in marks else base


def view_text(node: Node, base: str, shape: str) -> str:
    """Return the view `node` of `base`; `shape` is the text of its shape."""
    name, p = node.prim.name, node.params
    if name == "reshape":
        return f"{base}.reshape({shape})"
    if name == "transpose":
        return f"{base}.T" if p["perm"] == (1, 0) else f"{base}.transpose({', '.join(map(str, p['perm']))})"
    if name == "slice":
        marks = [":" if n == m else f"{a}:{b}" + (f":{s}" if s != 1 else "") for n, m, a, b, s in zip(
            node.shape, node.inputs[0].shape, p["start"], p["stop"], p["step"], strict=True)]
        return f"{base}[{', '.join(marks)}]"
    if name == "flip":
        return f"np.flip({base}, axis={axes_text(p['axes'])})"
    if name == "proj":
        return f"{base}[{p['index']}]"
    if name == "barrier":
        return base
    return f"np.broadcast_to({spread_text(base, node.ndim, p['axes'])}, {shape})"


def takes_spread(node: Node) -> bool:
    """Tell whether the statement's operands may be left to NumPy's broadcasting."""
    return node.prim.kind == "elementwise" or _assigns(node)


def _assigns(node: Node) -> bool:
    """Tell whether a scatter puts one element into each row: none is met twice, so that it is an assignment."""
    return node.prim.name == "scatter_add" and lockstep(node) and node.inputs[1].ndim == 1


def statement(node: Node, xs: Sequence[str], out: str, evaluator: Callable[[Node], str]) -> list[str]:
    """Return the lines that compute `node` from the operands `xs` into the array `out`.

    `evaluator` names the function that evaluates a primitive which has no line of its own.
    """
    name, p = node.prim.name, node.params
    if node.prim.ufunc is not None:
        ufunc = f"np.{node.prim.ufunc.__name__}"
        if node.prim.kind == "elementwise":
            return [f"{ufunc}({', '.join(xs)}, out={out})"]
        if node.prim.kind == "reduce":
            return [f"{ufunc}.reduce({xs[0]}, axis={axes_text(p['axes'])}, out={out})"]
        return [f"{ufunc}.accumulate({xs[0]}, axis={p['axis']}, out={out})"]
    if name == "where":
        c, x, y = xs
        return ([] if y == out else [f"np.copyto({out}, {y})"]) + [f"np.copyto({out}, {x}, where={c})"]
    if name in INTO:
        return [f"{name}_into({', '.join((*xs, out))})"]
    if name == "cast":
        return [f"np.copyto({out}, {xs[0]}, casting=\"unsafe\")"]
    if name in ("argmax", "argmin"):
        return [f"np.{name}({xs[0]}, axis={p['axis']}, out={out})"]
    if name == "reshape":
        return [f"np.copyto({out}.reshape({xs[0]}.shape), {xs[0]})"]
    if name == "concatenate":
        return [f"np.concatenate({tuple_text(xs)}, axis={p['axis']}, out={out})"]
    if name == "einsum":
        return [f"np.matmul({xs[0]}, {xs[1]}, out={out})"]
    if name == "gather":
        if len(xs) == 2:
            return [f"take_rows({xs[0]}, {xs[1]}, {out}{_more(*p.get('read', ()))})"]
        return [f"np.copyto({out}, {xs[0]}[{', '.join(xs[1:])}])"]
    if name == "scatter_add":
        index = ", ".join(xs[1:])
        if _assigns(node):
            return [f"{out}[...] = 0", f"{out}[{index}] = {xs[0]}"]
        return [f"sum_rows({xs[0]}, ({index},), {out}{_more(p.get('read'))})"]
    if name == "gather_sum":
        return [f"sum_gathered({', '.join((*xs, out))}{_more(p.get('read'))})"]
    if name == "pad":
        cut = [f"{a}:{n - b}" + (f":{i + 1}" if i else "") if (a, b, i) != (0, 0, 0) else ":"
               for n, a, b, i in zip(node.shape, p["low"], p["high"], p["interior"], strict=True)]
        return [f"{out}[...] = 0", f"{out}[{', '.join(cut)}] = {xs[0]}"]
    if name == "cumsum":
        return [f"np.cumsum({xs[0]}, axis={p['axis']}, dtype={dtype_text(node.dtype)}, out={out})"]
    return [f"np.copyto({out}, {evaluator(node)}({', '.join(xs)}))"]


def _more(value: Any = None) -> str:
    """Return one more argument, where there is one."""
    return f", {value!r}" if value else ""


MANAGED = frozenset({"einsum", "reshape", "concatenate", "cumsum", "argmax", "argmin", "scatter_add", "gather_sum",
                     "pad", *(name for name, prim in PRIMITIVES.items() if prim.ufunc is not None)})


def fits_matmul(node: Node) -> bool:
    """Tell whether an operand's strides are such that matmul hands it to BLAS as it stands.

    One of the last two axes must be the one along which elements are next to each other.
    """
    name, p = node.prim.name, node.params
    if name == "transpose":
        return p["perm"].index(node.ndim - 1) >= node.ndim - 2
    if name == "slice":
        return p["step"][-1] == 1
    return name not in ("expand", "flip")


def dtype_text(dtype: np.dtype) -> str:
    """Return ``np.float32``."""
    return f"np.{dtype.name}" if dtype.kind != "b" else "np.bool_"


def array_text(node: Node, shape: str, function: str, *args: Any) -> str:
    """Return a call that makes an array of the node's type."""
    return f"np.{function}({', '.join((shape, *args, dtype_text(node.dtype)))})"
