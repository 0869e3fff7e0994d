"""Lines of NumPy for each statement, which write into given memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from ..combiners import ADD, combiner_of
from ..errors import printable
from ..graph import Node
from ..ops import elementwise as ew
from ..ops.einsum import einsum
from ..ops.index import gather, gather_sum, lockstep, scatter_add
from ..ops.shape import concatenate, pad
from ..ops.strict_index import Reading
from ..passes.lower_einsum import canonical
from ..primitive import IN_ORDER, PART, Primitive
from ..symbolic import Dim, Symbol, size_of
from ..text import literal
from ..views import window

INTO = (ew.arccosh_slope, ew.arctan2_slope, ew.tanh_slope)  # those with a function ``*_into`` in `ops.elementwise`


def number(node: Node) -> str:
    """Return the text of a constant.

    A Python number stands for it where NumPy's promotion gives the node's dtype.
    """
    value = node.params["value"]
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "np.nan", "inf": "np.inf", "-inf": "-np.inf"}[repr(value)]
    return literal(node)


def comment(text: str) -> str:
    """Return `text` as a comment of one line."""
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


def broadcast_text(base: str, ndim: int, axes: Sequence[int]) -> str:
    """Return `base` indexed such that NumPy's broadcasting repeats it along `axes`."""
    marks = ["None" if a in axes else ":" for a in range(ndim)]
    while marks and marks[0] == "None":
        del marks[0]
    return f"{base}[{', '.join(marks)}]" if "None" in marks else base


def view_text(node: Node, base: str, shape: str) -> str:
    """Return the view `node` of `base`; `shape` is the text of its shape."""
    if node.prim.view is PART:
        return f"{base}[{node.params['index']}]"
    part = window(node)
    if part is None:
        return f"{base}.reshape({shape})"
    backwards = [a for a, s in enumerate(part.step) if s < 0]
    if backwards:
        base = f"np.flip({base}, axis={axes_text(backwards)})"
    slices = [_slice_text(n, node.shape[k], a, s) for n, k, a, s in zip(node.inputs[0].shape, *part, strict=True)]
    if any(text != ":" for text in slices):
        base = f"{base}[{', '.join(slices)}]"
    perm = sorted(range(len(part.axes)), key=part.axes.__getitem__)
    if perm != sorted(perm):
        base = f"{base}.T" if perm == [1, 0] else f"{base}.transpose({', '.join(map(str, perm))})"
    axes = part.repeated(node.ndim)
    return f"np.broadcast_to({broadcast_text(base, node.ndim, axes)}, {shape})" if axes else base


def _slice_text(size: int | Dim, length: int | Dim, start: int | Dim, step: int) -> str:
    """Return the slice of `length` elements of an axis of `size`."""
    if length == size:
        return ":"
    stop = start + step * length
    if isinstance(stop, int) and isinstance(size, int):
        stop = min(stop, size)
    return f"{start}:{stop}" + (f":{step}" if step != 1 else "")


def contains_shape(node: Node) -> bool:
    """Return whether the text of a view contains its shape."""
    part = window(node)
    return node.prim.view is IN_ORDER if part is None else len(part.axes) < node.ndim


def broadcasts(node: Node) -> bool:
    """Return whether NumPy may broadcast the operands of a statement."""
    return node.prim.kind == "elementwise" or _assigns(node)


def _assigns(node: Node) -> bool:
    """Return whether a scatter puts one element into each row."""
    return node.prim is scatter_add and lockstep(node) and node.inputs[1].ndim == 1


def statement(node: Node, xs: Sequence[str], out: str, evaluator: Callable[[Node], str]) -> list[str]:
    """Return the lines that compute `node` from `xs` into the array `out`.

    `evaluator` names the function that evaluates a primitive without a line of its own.
    """
    prim = node.prim
    if prim.ufunc:
        return [f"np.{prim.ufunc.__name__}({', '.join(xs)}, out={out})"]
    if prim.kind == "reduce":
        ufunc = combiner_of(node).ufunc
        return [f"np.{ufunc.__name__}.reduce({xs[0]}, axis={axes_text(node.params['axes'])}, out={out})"]
    write = _writer(node)
    return write(node, xs, out) if write else [f"np.copyto({out}, {evaluator(node)}({', '.join(xs)}))"]


def _where(node: Node, xs: Sequence[str], out: str) -> list[str]:
    c, x, y = xs
    return ([] if y == out else [f"np.copyto({out}, {y})"]) + [f"np.copyto({out}, {x}, where={c})"]


def _gather(node: Node, xs: Sequence[str], out: str) -> list[str]:
    if len(xs) == 2:
        return [f"take_rows({xs[0]}, {xs[1]}, {out}{_more(*node.params.get('read', ()))})"]
    return [f"np.copyto({out}, {xs[0]}[{', '.join(xs[1:])}])"]


def _scatter_add(node: Node, xs: Sequence[str], out: str) -> list[str]:
    index = ", ".join(xs[1:])
    if _assigns(node):
        return [f"{out}[...] = 0", f"{out}[{index}] = {xs[0]}"]
    return [f"sum_rows({xs[0]}, ({index},), {out}{_more(node.params.get('read'))})"]


def _pad(node: Node, xs: Sequence[str], out: str) -> list[str]:
    p = node.params
    cut = [f"{a}:{n - b}" + (f":{i + 1}" if i else "") if (a, b, i) != (0, 0, 0) else ":"
           for n, a, b, i in zip(node.shape, p["low"], p["high"], p["interior"], strict=True)]
    return [f"{out}[...] = 0", f"{out}[{', '.join(cut)}] = {xs[0]}"]


def _along(node: Node, xs: Sequence[str], out: str) -> list[str]:
    axis, by = node.params["axis"], combiner_of(node)
    if by.position:
        return [f"np.{by.name}({xs[0]}, axis={axis}, out={out})"]
    if by is ADD:  # ``np.add.accumulate`` widens small integers
        return [f"np.cumsum({xs[0]}, axis={axis}, dtype={dtype_text(node.dtype)}, out={out})"]
    return [f"np.{by.ufunc.__name__}.accumulate({xs[0]}, axis={axis}, out={out})"]


def _more(value: Reading = None) -> str:
    """Return one more argument, if there is a value."""
    return f", {value!r}" if value else ""


def _in_order(node: Node, xs: Sequence[str], out: str) -> list[str]:
    return [f"np.copyto({out}.reshape({xs[0]}.shape), {xs[0]})"]


Writer = Callable[[Node, Sequence[str], str], list[str]]
_BY_ROWS: dict[Primitive, Writer] = {
    ew.where: _where,
    ew.cast: lambda node, xs, out: [f"np.copyto({out}, {xs[0]}, casting=\"unsafe\")"],
    gather: _gather,
    **dict.fromkeys(INTO, lambda node, xs, out: [f"{node.prim.name}_into({', '.join((*xs, out))})"])}
_WHOLE: dict[Primitive, Writer] = {
    einsum: lambda node, xs, out: [f"np.matmul({xs[0]}, {xs[1]}, out={out})"],
    concatenate: lambda node, xs, out: [f"np.concatenate({tuple_text(xs)}, axis={node.params['axis']}, out={out})"],
    scatter_add: _scatter_add,
    gather_sum: lambda node, xs, out: [f"sum_gathered({', '.join((*xs, out))}{_more(node.params.get('read'))})"],
    pad: _pad}


def _of_whole(node: Node) -> Writer | None:
    """Return the writer of a statement on whole arrays into given memory."""
    if node.prim.view is IN_ORDER:
        return _in_order
    if node.prim.combiner is not None and "axis" in node.params:
        return _along
    return _WHOLE.get(node.prim)


def _writer(node: Node) -> Writer | None:
    return _BY_ROWS.get(node.prim) or _of_whole(node)


def managed(node: Node) -> bool:
    """Return whether the statement works on whole arrays and writes into given memory."""
    return _of_whole(node) is not None


def temporary_bytes(node: Node) -> int | Dim:
    """Return the bytes that the lines of a statement allocate beside its result."""
    prim, result = node.prim, size_of(node.shape) * node.dtype.itemsize
    if prim is einsum:
        apart = [i for i in node.inputs if not fits_matmul(i)]
        copies = sum((size_of(i.shape) * i.dtype.itemsize for i in apart), start=cast("int | Dim", 0))
        return copies if canonical(node.params["subscripts"]) else result
    if prim in (scatter_add, gather_sum):  # places as int64, and a 1 for each of them
        return 0 if _assigns(node) else size_of(node.inputs[1].shape) * (8 + node.dtype.itemsize)
    if prim is gather:
        return result if len(node.inputs) > 2 else 0
    return 0 if prim.ufunc or prim.kind == "reduce" or _writer(node) else result


def fits_matmul(node: Node) -> bool:
    """Return whether matmul passes an operand to BLAS without a copy.

    One of the last two axes must be contiguous.
    """
    part = window(node) if node.prim.view is not None else None
    if part is None:
        return True
    return (not part.repeated(node.ndim) and min(part.step) > 0 and part.step[-1] == 1
            and part.axes[-1] >= node.ndim - 2)


def dtype_text(dtype: np.dtype) -> str:
    """Return ``np.float32``."""
    return f"np.{dtype.name}" if dtype.kind != "b" else "np.bool_"


def array_text(node: Node, shape: str, function: str, *args: str) -> str:
    """Return a call that makes an array of the node's type."""
    return f"np.{function}({', '.join((shape, *args, dtype_text(node.dtype)))})"
