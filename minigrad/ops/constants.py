"""Leaves of every graph: constants, counters, sizes; and `proj`, an entry of a tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..axes import ORDERED, AxisRule, Declared, Factor, subscripts
from ..graph import ArrayType, Node, Number, Params, dtype_of, zeros_like
from ..primitive import PART, ArrayNamespace, Primitive, Sample, free, leaf
from ..symbolic import Dim, Shape

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _make_full(xp: ArrayNamespace, *, value: Number, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return xp.full(shape, value, dtype=getattr(xp, dtype.name))


full = leaf(
    "full", lambda *, value, shape, dtype: ArrayType(shape, dtype), _make_full, axes=subscripts("-> ..."),
    hidden_params=frozenset({"shape", "dtype"}),
    key=lambda p: (repr(p["value"]), p["shape"], p["dtype"]),  # 0.0 and -0.0 are equal, and so are 1 and True
    params={"value": Any, "shape": Shape, "dtype": np.dtype},
    samples=lambda: [Sample((), {"value": 2.5, "shape": (2, 3), "dtype": np.dtype("f4")}, order=0)])


def _array_key(params: Params) -> tuple[object, ...]:
    value = params["value"]
    return value.shape, value.dtype, value.tobytes() if value.size <= 4096 else id(value)


const = leaf(
    "const", lambda *, value: ArrayType(value.shape, value.dtype),
    lambda xp, *, value: value if xp is np else xp.asarray(value),
    axes=Declared(lambda node: AxisRule((), (tuple((Factor(ORDERED),) for _ in node.shape),))),
    params={"value": np.ndarray}, key=_array_key,
    samples=lambda: [Sample((), {"value": np.arange(6).reshape(2, 3).astype(d)}, order=0) for d in ("f8", "i4", "?")])

iota = leaf(
    "iota", lambda *, size: ArrayType((size,), np.dtype(np.int64)),
    lambda xp, *, size: xp.arange(size, dtype=xp.int64), axes=subscripts("-> i!"), params={"size": int | Dim},
    samples=lambda: [Sample((), {"size": 4}, order=0)])

size_ = leaf(
    "size", lambda *, size, dtype: ArrayType((), dtype),
    lambda xp, *, size, dtype: xp.asarray(size, dtype=getattr(xp, dtype.name)),
    axes=subscripts("-> ..."), hidden_params=frozenset({"dtype"}), params={"size": int | Dim, "dtype": np.dtype},
    samples=lambda: [Sample((), {"size": 4, "dtype": np.dtype("f8")}, order=0)])


def _proj_vjp(g: Node, out: Node, whole: Node, *, index: int) -> list[tuple[Node | None, ...]]:
    return [tuple(g if i == index else None for i in range(len(whole.types)))]


def _proj_jvp(ts: Sequence[Node | tuple[Node | None, ...]], out: Node, whole: Node, *, index: int) -> Node:
    (whole_tangent,) = ts
    t = whole_tangent[index] if isinstance(whole_tangent, tuple) else proj(whole_tangent, index=index)
    return zeros_like(out) if t is None else t


def _proj_batch(size: int | Dim, mapped: Sequence[bool], whole: Node | tuple[Node, ...], *, index: int) -> Node:
    return whole[index] if isinstance(whole, tuple) else proj(whole, index=index)


proj = Primitive("proj", lambda t, *, index: t.parts[index], lambda xp, whole, *, index: whole[index], _proj_vjp,
                 _proj_jvp, _proj_batch,
                 flops=free, view=PART, params={"index": int},
                 printed=lambda node, operands, value: f"{operands[0]}[{node.params['index']}]",
                 drawn=lambda node, value: f"result {node.params['index']}")


def constant(value: ArrayLike) -> Node:
    """Return the node of an array, a private copy; a single number is a `full`.

    Raises
    ------
    DtypeError
        If the array is not of bools, integers or floats.
    """
    value = np.asarray(value)
    value = np.array(value, dtype=dtype_of(value.dtype))
    if value.ndim == 0:
        return full(value=value.item(), shape=(), dtype=value.dtype)
    value.setflags(write=False)
    return const(value=value)


def known(node: Node) -> Number | np.ndarray | None:
    """Return the value of a constant node, a number or an array; None for other nodes."""
    return node.params["value"] if node.prim in (full, const) else None


def size_scalar(n: int | Dim, dtype: np.dtype) -> Node:
    """Return a size as a scalar of `dtype`, a constant if its number is known."""
    if isinstance(n, Dim):
        return size_(size=n, dtype=dtype)
    return full(value=dtype.type(n).item(), shape=(), dtype=dtype)
