"""How each statement reads as a line of NumPy that writes into given memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..combiners import ADD
from ..errors import printable
from ..graph import PRIMITIVES, Node
from ..ops import elementwise as ew
from ..ops.einsum import einsum
from ..ops.index import gather, gather_sum, lockstep, scatter_add
from ..ops.shape import concatenate, pad
from ..primitive import PART, Primitive
from ..symbolic import Dim, Symbol
from ..text import literal
from ..views import IN_ORDER, window

INTO = (ew.arccosh_slope, ew.arctan2_slope, ew.tanh_slope)  # beside each, `ops.elementwise` has a function ``*_into``


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
    if node.prim.view is PART:
        return f"{base}[{node.params['index']}]"
    found = window(node)
    if found is None:
        return f"{base}.reshape({shape})"
    backwards = [a for a, s in enumerate(found.step) if s < 0]
    if backwards:
        base = f"np.flip({base}, axis={axes_text(backwards)})"
    cuts = [":" if node.shape[k] == n else f"{a}:{min(a + s * node.shape[k], n)}" + (f":{s}" if s != 1 else "")
            for n, k, a, s in zip(node.inputs[0].shape, *found, strict=True)]
    if any(cut != ":" for cut in cuts):
        base = f"{base}[{', '.join(cuts)}]"
    perm = sorted(range(len(found.axes)), key=found.axes.__getitem__)
    if perm != sorted(perm):
        base = f"{base}.T" if perm == [1, 0] else f"{base}.transpose({', '.join(map(str, perm))})"
    axes = found.repeated(node.ndim)
    return f"np.broadcast_to({spread_text(base, node.ndim, axes)}, {shape})" if axes else base


def says_shape(node: Node) -> bool:
    """Tell whether the text of a view contains its shape."""
    found = window(node)
    return node.prim.view is IN_ORDER if found is None else len(found.axes) < node.ndim


def takes_spread(node: Node) -> bool:
    """Tell whether the statement's operands may be left to NumPy's broadcasting."""
    return node.prim.kind == "elementwise" or _assigns(node)


def _assigns(node: Node) -> bool:
    """Tell whether a scatter puts one element into each row: none is met twice, so that it is an assignment."""
    return node.prim is scatter_add and lockstep(node) and node.inputs[1].ndim == 1


def statement(node: Node, xs: Sequence[str], out: str, evaluator: Callable[[Node], str]) -> list[str]:
    """Return the lines that compute `node` from the operands `xs` into the array `out`.

    `evaluator` names the function that evaluates a primitive which has no line of its own.
    """
    prim = node.prim
    if prim.ufunc:
        return [f"np.{prim.ufunc.__name__}({', '.join(xs)}, out={out})"]
    if node.prim.kind == "reduce":
        return [f"np.{prim.combiner.ufunc.__name__}.reduce({xs[0]}, axis={axes_text(node.params['axes'])}, out={out})"]
    write = _STATEMENTS.get(prim)
    return write(node, xs, out) if write else [f"np.copyto({out}, {evaluator(node)}({', '.join(xs)}))"]


def _where(node: Node, xs: Sequence[str], out: str) -> list[str]:
    c, x, y = xs
    return ([] if y == out else [f"np.copyto({out}, {y})"]) + [f"np.copyto({out}, {x}, where={c})"]


def _into(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"{node.prim.name}_into({', '.join((*xs, out))})"]


def _cast(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.copyto({out}, {xs[0]}, casting=\"unsafe\")"]


def _position(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.{node.prim.combiner.name}({xs[0]}, axis={node.params['axis']}, out={out})"]


def _reshape(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.copyto({out}.reshape({xs[0]}.shape), {xs[0]})"]


def _concatenate(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.concatenate({tuple_text(xs)}, axis={node.params['axis']}, out={out})"]


def _matmul(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.matmul({xs[0]}, {xs[1]}, out={out})"]


def _gather(node: Node, xs: Sequence[str], out: str) -> list[str]:
    if len(xs) == 2:
        return [f"take_rows({xs[0]}, {xs[1]}, {out}{_more(*node.params.get('read', ()))})"]
    return [f"np.copyto({out}, {xs[0]}[{', '.join(xs[1:])}])"]


def _scatter_add(node: Node, xs: Sequence[str], out: str) -> list[str]:
    index = ", ".join(xs[1:])
    if _assigns(node):
        return [f"{out}[...] = 0", f"{out}[{index}] = {xs[0]}"]
    return [f"sum_rows({xs[0]}, ({index},), {out}{_more(node.params.get('read'))})"]


def _gather_sum(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"sum_gathered({', '.join((*xs, out))}{_more(node.params.get('read'))})"]


def _pad(node: Node, xs: Sequence[str], out: str) -> list[str]:
    p = node.params
    cut = [f"{a}:{n - b}" + (f":{i + 1}" if i else "") if (a, b, i) != (0, 0, 0) else ":"
           for n, a, b, i in zip(node.shape, p["low"], p["high"], p["interior"], strict=True)]
    return [f"{out}[...] = 0", f"{out}[{', '.join(cut)}] = {xs[0]}"]


def _running(node: Node, xs: Sequence[str], out: str) -> list[str]:
    axis, by = node.params["axis"], node.prim.combiner
    if by is ADD:  # ``np.add.accumulate`` would add small integers up in wider ones
        return [f"np.cumsum({xs[0]}, axis={axis}, dtype={dtype_text(node.dtype)}, out={out})"]
    return [f"np.{by.ufunc.__name__}.accumulate({xs[0]}, axis={axis}, out={out})"]


def _more(value: Any = None) -> str:
    """Return one more argument, where there is one."""
    return f", {value!r}" if value else ""


Writer = Callable[[Node, Sequence[str], str], list[str]]
_BY_ROWS: dict[Primitive, Writer] = {ew.where: _where, ew.cast: _cast, gather: _gather, **dict.fromkeys(INTO, _into)}
_WHOLE: dict[Primitive, Writer] = {
    einsum: _matmul, concatenate: _concatenate, scatter_add: _scatter_add, gather_sum: _gather_sum, pad: _pad,
    **{p: _reshape for p in PRIMITIVES.values() if p.view is IN_ORDER},
    **{p: _position if p.combiner.position else _running for p in PRIMITIVES.values()
       if p.combiner is not None and "axis" in inspect.signature(p.type).parameters}}
_STATEMENTS = {**_BY_ROWS, **_WHOLE}
MANAGED = frozenset(_WHOLE)  # statements on whole arrays that write into given memory


def fits_matmul(node: Node) -> bool:
    """Tell whether an operand's strides are such that matmul hands it to BLAS as it stands.

    One of the last two axes must be the one along which elements are next to each other.
    """
    found = window(node) if node.prim.view is not None else None
    if found is None:
        return True
    return (not found.repeated(node.ndim) and min(found.step) > 0 and found.step[-1] == 1
            and found.axes[-1] >= node.ndim - 2)


def dtype_text(dtype: np.dtype) -> str:
    """Return ``np.float32``."""
    return f"np.{dtype.name}" if dtype.kind != "b" else "np.bool_"


def array_text(node: Node, shape: str, function: str, *args: Any) -> str:
    """Return a call that makes an array of the node's type."""
    return f"np.{function}({', '.join((shape, *args, dtype_text(node.dtype)))})"
