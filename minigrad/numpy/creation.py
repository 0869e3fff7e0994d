"""Creation: arrays of a shape, ranges, grids, triangles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DtypeError, ShapeError, at_user_line
from ..graph import dtype_of, full
from ..ops import elementwise as ew
from ..ops.constants import constant
from ..primitive import on_host
from ..sizes import Size, shown, unwrap
from ..symbolic import Dim, differs, divide
from ..traced_array import TABLE, Array, ArrayLike, as_array, hooks
from ..tracing import number
from .arguments import ShapeLike, as_int, as_shape, broadcast_node, checked_cast, counted
from .data_types import as_floating, astype, result_type
from .dispatch import any_traced, implements
from .joining import concatenate, stack
from .manipulation import broadcast_arrays, broadcast_to, expand_dims, moveaxis, ravel, reshape, swapaxes
from .selections import coordinates, range_between

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# -- conversion ----------------------------------------------------------------------------------------------


def converted(x: Any) -> Array | np.ndarray:
    """Return a list, a scalar or another library's array as an ndarray; as a traced value where it holds one."""
    if isinstance(x, (list, tuple)) and any_traced(x):
        return stack([as_array(v) for v in x])
    if hasattr(x, "tocoo"):
        raise DtypeError(at_user_line(f"a {type(x).__name__} of SciPy with a traced value: write "
                                      "mg.Sparse.from_scipy(A), which multiplies traced values"))
    try:
        value = on_host(x)
        if value.dtype != object or not all(isinstance(v, (int, float, Size, Array)) for v in value.flat):
            return value
        # NumPy makes objects of sizes, in np.arange(x.shape[0]) or np.array(x.shape): they are numbers.
        listed = value.tolist()
        return Array(as_array(listed)._node) if any_traced([listed]) else np.asarray(listed)  # of NumPy's dtype
    except ValueError as error:
        raise ShapeError(at_user_line(f"a {type(x).__name__} that is not an array: {error}")) from None


hooks.converted = converted


@implements(np.copy)
def copy(a: ArrayLike, order: str = "K", subok: bool = False) -> Array:
    """Return the array itself: traced arrays never change."""
    return as_array(a)


@implements(np.asarray, np.array, np.asanyarray, np.ascontiguousarray)
def asarray(a: ArrayLike, dtype: DTypeLike | None = None, order: str | None = None, *, copy: bool | None = None,
            like: object = None, device: str | None = None, ndmin: int = 0, subok: bool = False) -> Array:
    """Return a traced array, cast where a dtype is given; stack lists of them."""
    x = as_array(a)
    if ndmin > x.ndim:
        x = expand_dims(x, tuple(range(ndmin - x.ndim)))
    return x if dtype is None else astype(x, dtype)


@implements(np.asfortranarray, np.require)
def asfortranarray(a: ArrayLike, dtype: DTypeLike | None = None, *arguments: object, **more: object) -> Array:
    """Return a traced array, cast where a dtype is given: it has no memory layout."""
    x = as_array(a)
    return x if dtype is None else x.astype(dtype)


# -- arrays of a shape ---------------------------------------------------------------------------------------


def _like(function: Callable[..., object], value: int) -> Callable[..., Array]:
    @implements(function, doc=f"Return ``np.{function.__name__}`` with the shape and dtype of a traced value.")
    def like(a: ArrayLike, dtype: DTypeLike | None = None, order: str = "K", subok: bool = True,
             shape: ShapeLike | None = None, *, device: str | None = None) -> Array:
        x = as_array(a)._node
        return Array(full(value, x.shape if shape is None else as_shape(shape), dtype_of(dtype or x.dtype)))

    return like


zeros_like, ones_like = _like(np.zeros_like, 0), _like(np.ones_like, 1)
_like(np.empty_like, 0)


@implements(np.full_like)
def full_like(a: ArrayLike, fill_value: ArrayLike, dtype: DTypeLike | None = None, order: str = "K", subok: bool = True,
              shape: ShapeLike | None = None, *, device: str | None = None) -> Array:
    """Return an array of one value, with the shape and dtype of another."""
    x = as_array(a)._node
    value = checked_cast(fill_value, dtype_of(dtype or x.dtype))
    return Array(broadcast_node(value, x.shape if shape is None else as_shape(shape)))


def _from_shape(function: Callable[..., object], value: int) -> None:
    @implements(function, doc=f"Return ``np.{function.__name__}`` of a shape; sizes may be symbolic.")
    def make(shape: ShapeLike, dtype: DTypeLike = float, order: str = "C", *, device: str | None = None,
             like: object = None) -> Array:
        return Array(full(value, as_shape(shape), dtype_of(dtype or float)))


_from_shape(np.zeros, 0)
_from_shape(np.ones, 1)
_from_shape(np.empty, 0)


@implements(np.full)
def full_(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike | None = None, order: str = "C", *,
          device: str | None = None, like: object = None) -> Array:
    """Return an array of one value; sizes may be symbolic."""
    value = as_array(fill_value)._node if dtype is None else checked_cast(fill_value, dtype_of(dtype))
    return Array(broadcast_node(value, as_shape(shape)))


# -- ranges and grids ----------------------------------------------------------------------------------------


@implements(np.arange)
def arange(start: ArrayLike, stop: ArrayLike | None = None, step: ArrayLike = 1, dtype: DTypeLike | None = None, *,
           device: str | None = None, like: object = None) -> Array:
    """Return evenly spaced numbers; a symbolic size may end a count from zero."""
    if stop is None:
        start, stop = 0, start
    if any(isinstance(v, (Size, Array)) for v in (start, stop)) and (steps := _steps(start, stop, step)) is not None:
        return steps if dtype is None else steps.astype(dtype)
    ends: Any = [int(v) if isinstance(v, Size) else v for v in (start, stop, step)]
    return Array(constant(np.arange(*ends, dtype=dtype)))


def _steps(start: object, stop: object, step: object) -> Array | None:
    """Return a range of whole ends that are symbolic or traced; None for others."""
    low, high = unwrap(start), unwrap(stop)
    if not isinstance(step, int) or isinstance(step, bool):
        return None
    if isinstance(low, (int, Dim)) and isinstance(high, (int, Dim)):
        if (low, step) != (0, 1) and not differs(low) and not differs(high):
            return None
        if (count := divide(high - low, step)) is not None:
            steps = as_array(counted(count))
            steps = steps if step == 1 else steps * step
            return steps if isinstance(start, int) and start == 0 else steps + as_array(start)
    if not step or not all(isinstance(v, (int, Size)) or (isinstance(v, Array) and v.dtype.kind in "iu" and not v.ndim)
                           for v in (start, stop)):
        return None
    return Array(range_between(as_array(start), as_array(stop), step))


@implements(np.linspace)
def linspace(start: ArrayLike, stop: ArrayLike, num: int = 50, endpoint: bool = True, retstep: bool = False,
             dtype: DTypeLike | None = None, axis: int = 0, *,
             device: str | None = None) -> Array | tuple[Array, Array]:
    """Return evenly spaced numbers between ends that may be traced."""
    out, step = spaced(start, stop, num, endpoint, dtype)
    out = moveaxis(out, 0, axis)
    return (out, step) if retstep else out


def spaced(start: ArrayLike, stop: ArrayLike, num: int, endpoint: bool,
              dtype: DTypeLike | None = None) -> tuple[Array, Array]:
    """Return evenly spaced numbers along the first axis, and the step between them."""
    low, high = (as_array(v) for v in (start, stop))
    kind = result_type(low, high)
    kind = np.dtype(np.float64) if kind.kind != "f" else kind
    low, high = low.astype(kind), high.astype(kind)
    if isinstance(num, Size) and differs(num.dim):
        return _spaced_by_size(low, high, num, endpoint, dtype)
    n = as_int(num, "linspace", "num")
    if n < 0:
        raise ShapeError(at_user_line(f"np.linspace: {n} numbers"))
    parts = n - 1 if endpoint else n
    span = high - low
    steps = np.arange(n, dtype=kind).reshape((-1,) + (1,) * span.ndim)
    step = span / parts if parts > 0 else full_like(span, np.nan)
    out = low + (steps * step if parts > 0 else steps * span)
    if endpoint and n > 1:
        out = concatenate([out[:-1], expand_dims(broadcast_to(high, out._node.shape[1:]), 0)])
    if dtype is not None and dtype_of(dtype).kind in "iu":
        out = TABLE[np.floor](out)
    return out if dtype is None else out.astype(dtype), step


def _spaced_by_size(low: Array, high: Array, n: Size, endpoint: bool, dtype: DTypeLike | None) -> tuple[Array, Array]:
    """Return numbers as `spaced` does, as many as a size that differs between examples."""
    span = high - low
    step = span / TABLE[np.maximum](n - 1 if endpoint else n, 1)
    place = counted(n.dim).reshape((-1,) + (1,) * span.ndim)
    out = low + place.astype(span.dtype) * step
    if endpoint:
        out = TABLE[np.where]((place == n - 1) & (place > 0), high, out)
    if dtype is not None and dtype_of(dtype).kind in "iu":
        out = TABLE[np.floor](out)
    return out if dtype is None else out.astype(dtype), TABLE[np.where](as_array(n) > int(endpoint), step, np.nan)


@implements(np.logspace)
def logspace(start: ArrayLike, stop: ArrayLike, num: int = 50, endpoint: bool = True, base: ArrayLike = 10.0,
             dtype: DTypeLike | None = None, axis: int = 0) -> Array:
    """Return numbers spaced evenly on a logarithmic scale, given exponents."""
    out = as_array(base) ** spaced(start, stop, num, endpoint)[0]
    return moveaxis(out if dtype is None else out.astype(dtype), 0, axis)


@implements(np.geomspace)
def geomspace(start: ArrayLike, stop: ArrayLike, num: int = 50, endpoint: bool = True, dtype: DTypeLike | None = None,
              axis: int = 0) -> Array:
    """Return numbers spaced evenly on a logarithmic scale, given the ends.

    The ends have one sign.
    """
    low, high = (as_array(v) for v in (start, stop))
    low, high = (v.astype(np.float64) for v in as_floating(low, high))  # as in NumPy, for all ends
    sign = TABLE[np.sign](low)
    out = sign * 10.0 ** spaced(np.log10(low * sign), np.log10(high * sign), num, endpoint)[0]
    shape = out._node.shape[1:]
    if num > 0:
        first, last = (expand_dims(broadcast_to(v, shape), 0) for v in (low, high))
        out = concatenate([first, out[1:-1], last] if endpoint and num > 1 else [first, out[1:]])
    return moveaxis(out if dtype is None else out.astype(dtype), 0, axis)


@implements(np.meshgrid)
def meshgrid(*xi: ArrayLike, copy: bool | None = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    """Return the coordinate arrays of a grid."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(at_user_line(f"np.meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}"))
    xs, n = [ravel(x) for x in xi], len(xi)
    grid = [reshape(x, (1,) * i + (-1,) + (1,) * (n - i - 1)) for i, x in enumerate(xs)]
    if indexing == "xy" and n > 1:
        grid = [swapaxes(x, 0, 1) for x in grid]
    return tuple(grid) if sparse or n < 2 else broadcast_arrays(*grid)


# -- matrices ------------------------------------------------------------------------------------------------


@implements(np.eye)
def eye(N: int | Size, M: int | Size | None = None, k: int = 0, dtype: DTypeLike = float, order: str = "C", *,
        device: str | None = None, like: object = None) -> Array:
    """Return ones on a diagonal of a matrix of zeros; sizes may be symbolic."""
    k = as_int(k, "eye", "k")
    if isinstance(N, Size) or isinstance(M, Size):
        return (arange(N)[:, None] + k == arange(N if M is None else M)).astype(dtype)
    return Array(constant(np.eye(as_int(N, "eye", "N"), None if M is None else as_int(M, "eye", "M"), k, dtype)))


@implements(np.identity)
def identity(n: int, dtype: DTypeLike | None = None, *, like: object = None) -> Array:
    """Return the identity matrix; its size may be symbolic."""
    return eye(n, dtype=dtype or float)


@implements(np.tri)
def tri(N: int | Size, M: int | Size | None = None, k: int = 0, dtype: DTypeLike = float, *,
        like: object = None) -> Array:
    """Return ones on and below a diagonal; sizes may be symbolic."""
    return (as_array(arange(N))[:, None] + as_int(k, "tri", "k") >= arange(N if M is None else M)).astype(dtype)


def _indices_of_triangle(function: Callable[..., tuple[np.ndarray, ...]], below: bool) -> None:
    name = function.__name__

    @implements(function, doc=f"Return the positions that ``np.{name}`` does; sizes may be symbolic.")
    def positions(n: int | Size, k: int = 0, m: int | Size | None = None) -> tuple[Array | np.ndarray, ...]:
        if not isinstance(n, Size) and not isinstance(m, Size):
            return function(n, k, m)
        k = as_int(k, name, "k")
        mask = tri(n, m, k if below else k - 1, bool)._node
        return coordinates(mask if below else ew.logical_not(mask))


_indices_of_triangle(np.tril_indices, below=True)
_indices_of_triangle(np.triu_indices, below=False)


def _triangle(function: Callable[..., np.ndarray]) -> None:
    name = function.__name__

    @implements(function, doc=f"Return ``np.{name}`` of the last two axes.")
    def half(m: ArrayLike, k: int = 0) -> Array:
        x, k = as_array(m)._node, as_int(k, name, "k")
        if not x.ndim:
            raise ShapeError(at_user_line(f"np.{name} of {x.type}: it takes an array"))
        if x.ndim == 1:  # a row of each
            x = broadcast_node(x, (x.shape[0], x.shape[0]))
        sizes = x.shape[-2:]
        if any(isinstance(n, Dim) for n in sizes):
            below = tri(shown(sizes[0]), shown(sizes[1]), k if name == "tril" else k - 1, bool)._node
            mask = below if name == "tril" else ew.logical_not(below)
        else:
            mask = constant(function(np.ones(tuple(map(number, sizes)), bool), k))
        return Array(ew.where(broadcast_node(mask, x.shape), x, full(0, x.shape, x.dtype)))


_triangle(np.tril)
_triangle(np.triu)
