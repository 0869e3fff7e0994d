"""Products: matmul, dot, einsum and others, each one contraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DtypeError, ShapeError, TraceError, at_user_line
from ..graph import ArrayType, Node
from ..locks import importing
from ..ops import shape
from ..ops.einsum import LETTERS, contract
from ..symbolic import Dim
from ..traced_array import Array, ArrayLike, as_array
from ..tracing import guard_equal, number
from .arguments import Axes, as_axis, as_int, as_sequence, broadcast_shapes, of_several_axes, several
from .data_types import same_dtype
from .dispatch import implements
from .indexing import diagonal
from .manipulation import matrix_transpose, moveaxis, reshape

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


def _operands(name: str, *values: ArrayLike, dtype: DTypeLike | None = None) -> list[Node]:
    xs = [as_array(v) for v in values]
    nodes = same_dtype(xs if dtype is None else [x.astype(dtype) for x in xs])
    if nodes[0].dtype == np.bool_:
        raise DtypeError(at_user_line(f"{name} of bools: cast them to int or float first"))
    return nodes


def _mismatch(name: str, a: Node, b: Node, n: int | Dim, m: int | Dim) -> ShapeError:
    sizes = [t.shape for t in (a, b)]
    hint = of_several_axes([n, m])
    if a.ndim <= 2 and b.ndim == 2 and guard_equal(sizes[0][-1], sizes[1][1]):
        hint = " Did you mean w.T?" if a.ndim == 1 else " Did you mean b.T?"
    elif a.ndim == 2 and guard_equal(sizes[0][0], m):
        hint = " Did you mean a.T?"
    return ShapeError(at_user_line(f"{name} {a.type} @ {b.type}: inner sizes differ ({n}, {m}).{hint}"))


@implements(np.matmul)
def matmul(x1: ArrayLike, x2: ArrayLike, /, out: None = None, *, dtype: DTypeLike | None = None,
           axes: Axes = None) -> Array:
    """Return the matrix product of the last two axes.

    A vector counts as a row on the left, a column on the right.
    """
    if axes is not None:
        raise TraceError(at_user_line("np.matmul with axes=: use np.moveaxis"))
    a, b = _operands("matmul", x1, x2, dtype=dtype)
    if not a.ndim or not b.ndim:
        raise ShapeError(at_user_line(f"matmul {a.type} @ {b.type}: a scalar has no axis to sum over; use *"))
    n, m = a.shape[-1], b.shape[-2 if b.ndim > 1 else -1]
    if not guard_equal(n, m):
        raise _mismatch("matmul", a, b, n, m)
    lead = broadcast_shapes("matmul", [ArrayType(x.shape[:-2], x.dtype) for x in (a, b)])
    letters = LETTERS[26:26 + len(lead)]
    kept = ("a" if a.ndim > 1 else "") + ("b" if b.ndim > 1 else "")
    terms = [_leading(x, letters, own) for x, own in ((a, "ai"[-min(a.ndim, 2):]), (b, "ib"[:min(b.ndim, 2)]))]
    present = "".join(c for c in letters if any(c in s for s, _ in terms))
    product = Array(contract(terms, present + kept))
    # An axis of size 1 on both sides comes back.
    return product if present == letters else reshape(product, (*lead, *product._node.shape[len(present):]))


def _leading(x: Node, letters: str, own: str) -> tuple[str, Node]:
    """Return an operand of matmul without the leading axes of size 1, which broadcast, and its subscripts."""
    mine = letters[len(letters) - (x.ndim - len(own)):]
    drop = [i for i, c in enumerate(mine) if x.shape[i] == 1]
    if drop:
        x = shape.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in drop))
    return "".join(c for i, c in enumerate(mine) if i not in drop) + own, x


@implements(np.dot)
def dot(a: ArrayLike, b: ArrayLike, out: None = None) -> Array:
    """Return the dot product: the last axis of `a` with the second to last of `b`."""
    x, y = _operands("dot", a, b)
    if not x.ndim or not y.ndim:
        return Array(x) * Array(y)
    axis = max(y.ndim - 2, 0)
    if not guard_equal(x.shape[-1], y.shape[axis]):
        raise _mismatch("dot", x, y, x.shape[-1], y.shape[axis])
    return tensordot(Array(x), Array(y), ((x.ndim - 1,), (axis,)))


@implements(np.tensordot)
def tensordot(a: ArrayLike, b: ArrayLike, axes: int | Sequence[int | Sequence[int]] = 2) -> Array:
    """Return the sum of products over given axes of both arrays."""
    x, y = _operands("tensordot", a, b)
    if several(axes):
        first, second = map(as_sequence, axes)
        left = [as_axis(i, x.ndim, "tensordot") for i in first]
        right = [as_axis(i, y.ndim, "tensordot") for i in second]
    else:
        count = as_int(axes, "tensordot", "axes")
        left, right = list(range(x.ndim - count, x.ndim)), list(range(count))
    if len(left) != len(right) or any(i < 0 for i in left) or len(right) > y.ndim or not all(
            guard_equal(x.shape[i], y.shape[j]) for i, j in zip(left, right, strict=True)):
        raise ShapeError(at_user_line(f"tensordot({x.type}, {y.type}): axes {left} and {right} do not fit"))
    s = LETTERS[:x.ndim]
    free = iter(LETTERS[x.ndim:])
    t = "".join(s[left[right.index(j)]] if j in right else next(free) for j in range(y.ndim))
    return Array(contract([(s, x), (t, y)], "".join(c for c in s + t if (c in s) != (c in t))))


@implements(np.inner)
def inner(a: ArrayLike, b: ArrayLike, /) -> Array:
    """Return the sum of products over the last axes."""
    x, y = map(Array, _operands("inner", a, b))
    return x * y if not x.ndim or not y.ndim else tensordot(x, y, ((-1,), (-1,)))


@implements(np.outer)
def outer(a: ArrayLike, b: ArrayLike, out: None = None) -> Array:
    """Return the products of all pairs of elements."""
    return tensordot(as_array(a).ravel(), as_array(b).ravel(), 0)


@implements(np.vdot)
def vdot(a: ArrayLike, b: ArrayLike, /) -> Array:
    """Return the dot product of the flattened arrays."""
    return dot(as_array(a).ravel(), as_array(b).ravel())


@implements(np.vecdot)
def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1, dtype: DTypeLike | None = None) -> Array:
    """Return dot products along an axis."""
    a, b = _operands("vecdot", x1, x2, dtype=dtype)
    if not a.ndim or not b.ndim:
        raise ShapeError(at_user_line(f"vecdot {a.type} . {b.type}: a scalar has no axis to sum over; use *"))
    a, b = (moveaxis(Array(x), axis, -1)._node for x in (a, b))
    if not guard_equal(a.shape[-1], b.shape[-1]):
        raise _mismatch("vecdot", a, b, a.shape[-1], b.shape[-1])
    return einsum("...i,...i->...", Array(a), Array(b))


@implements(np.kron)
def kron(a: ArrayLike, b: ArrayLike) -> Array:
    """Return the Kronecker product of two matrices or vectors."""
    x, y = as_array(a), as_array(b)
    n = max(x.ndim, y.ndim)
    x, y = (reshape(v, (1,) * (n - v.ndim) + v.shape) for v in (x, y))
    product = tensordot(x, y, 0)
    product = product.transpose([i for pair in zip(range(n), range(n, 2 * n), strict=True) for i in pair])
    return reshape(product, tuple(p * q for p, q in zip(x._node.shape, y._node.shape, strict=True)))


def _need(name: str, x1: ArrayLike, x2: ArrayLike, ndim1: int, ndim2: int) -> None:
    a, b = as_array(x1)._node, as_array(x2)._node
    if a.ndim < ndim1 or b.ndim < ndim2:
        raise ShapeError(at_user_line(f"np.{name} of {a.type} and {b.type}: needs a matrix and a vector"))


if hasattr(np, "matvec"):  # NumPy 2.2
    @implements(np.matvec)
    def matvec(x1: ArrayLike, x2: ArrayLike, /, *, dtype: DTypeLike | None = None) -> Array:
        """Return products of matrices and vectors."""
        _need("matvec", x1, x2, 2, 1)
        return matmul(x1, as_array(x2)[..., None], dtype=dtype)[..., 0]

    @implements(np.vecmat)
    def vecmat(x1: ArrayLike, x2: ArrayLike, /, *, dtype: DTypeLike | None = None) -> Array:
        """Return products of vectors and matrices."""
        _need("vecmat", x1, x2, 1, 2)
        return matmul(as_array(x1)[..., None, :], x2, dtype=dtype)[..., 0, :]


@implements(np.einsum)
def einsum(*operands: Any, out: None = None, dtype: DTypeLike | None = None, order: str = "K", casting: str = "safe",
           optimize: object = False) -> Array:
    """Return the Einstein summation, in all of NumPy's forms."""
    with importing:
        from opt_einsum.parser import parse_einsum_input  # takes long, and few programs need it

    text = isinstance(operands[0], str)
    values = list(operands[1:] if text else operands[0:len(operands) - len(operands) % 2:2])
    nodes = _operands("einsum", *values, dtype=dtype)
    # opt_einsum writes ellipses and implicit results out; it looks at the number of axes alone.
    ranks = [(1,) * n.ndim for n in nodes]
    if text:
        description: tuple[Any, ...] = (operands[0], *ranks)
    else:
        pairs = [part for rank, sub in zip(ranks, operands[1::2], strict=False) for part in (rank, sub)]
        description = (*pairs, *([operands[-1]] if len(operands) % 2 else []))
    try:
        left, result, _ = parse_einsum_input(description, shapes=True)
        if not set(left + result) <= {*LETTERS, ","}:
            raise ValueError(f"a subscript in {operands[0]!r} is not a letter")
        if text and set(left) - {*operands[0], *result, ","}:  # axes of an ellipsis that the result leaves out
            raise ValueError(f"{operands[0]!r} must have the ellipsis in the result, too")
    except ValueError as error:
        raise ShapeError(at_user_line(f"einsum({', '.join(str(n.type) for n in nodes)}): {error}")) from None
    terms = []
    sizes: dict[str, int | Dim] = {}
    for s, n in zip(left.split(","), nodes, strict=True):
        if len(s) != n.ndim:
            raise ShapeError(at_user_line(f"einsum {operands[0]!r}: {s!r} does not fit {n.type}"))
        for c, size in zip(s, n.shape, strict=True):
            if c in sizes and not guard_equal(sizes[c], size) and 1 not in (sizes[c], size):
                raise ShapeError(at_user_line(
                    f"einsum({', '.join(str(m.type) for m in nodes)}): {c!r} is {sizes[c]} and {size}"))
            if sizes.get(c, 1) == 1:
                sizes[c] = size
    for s, n in zip(left.split(","), nodes, strict=True):
        terms.append(_plain_term(s, n, sizes))
    return Array(contract(terms, result))


def _plain_term(s: str, x: Node, sizes: dict[str, int | Dim]) -> tuple[str, Node]:
    """Return an operand without repeated subscripts, and without sizes 1 that broadcast."""
    array = Array(x)
    while (c := next((c for c in s if s.count(c) > 1), None)) is not None:
        i = s.index(c)
        j = s.index(c, i + 1)
        n, m = array._node.shape[i], array._node.shape[j]
        if not guard_equal(n, m):
            raise ShapeError(at_user_line(f"einsum: {c!r} is {n} and {m} in one operand, {x.type}"))
        array = diagonal(array, 0, i, j)
        s = s[:i] + s[i + 1:j] + s[j + 1:] + c
    x = array._node
    drop = [i for i, c in enumerate(s) if x.shape[i] == 1 and sizes[c] != 1]
    if drop:
        x = shape.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in drop))
        s = "".join(c for i, c in enumerate(s) if i not in drop)
    return s, x


@implements(np.cross)
def cross(a: ArrayLike, b: ArrayLike, axisa: int = -1, axisb: int = -1, axisc: int = -1,
          axis: int | None = None) -> Array:
    """Return the cross product of vectors of three elements."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if number(x._node.shape[-1]) != 3 or number(y._node.shape[-1]) != 3:
        raise ShapeError(at_user_line(f"np.cross({x._node.type}, {y._node.type}): needs vectors of 3 elements"))
    left, right = [1, 2, 0], [2, 0, 1]
    return moveaxis(x[..., left] * y[..., right] - x[..., right] * y[..., left], -1, axisc)


# -- the same in np.linalg -----------------------------------------------------------------------------------


@implements(np.linalg.diagonal)
def linalg_diagonal(x: ArrayLike, /, *, offset: int = 0) -> Array:
    """Return the diagonal of the last two axes."""
    return diagonal(x, offset, -2, -1)


@implements(np.linalg.trace)
def linalg_trace(x: ArrayLike, /, *, offset: int = 0, dtype: DTypeLike | None = None) -> Array:
    """Return the sum of the diagonal of the last two axes."""
    return as_array(x).trace(offset, -2, -1, dtype)


@implements(np.linalg.outer)
def linalg_outer(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """Return the products of all pairs of elements of two vectors."""
    a, b = as_array(x1), as_array(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(at_user_line(f"np.linalg.outer of {a._node.type} and {b._node.type}: needs vectors"))
    return outer(a, b)


for _function, _ours in ((np.linalg.cross, cross), (np.linalg.matmul, matmul), (np.linalg.tensordot, tensordot),
                         (np.linalg.vecdot, vecdot), (np.linalg.matrix_transpose, matrix_transpose)):
    implements(_function)(_ours)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[ArrayLike], *, out: None = None) -> Array:
    """Return the product of several matrices; the first and last may be vectors."""
    result, *others = map(as_array, arrays)
    for k, x in enumerate((result, *others)):
        if len(others) > 1 and x.ndim != 2 and not (x.ndim == 1 and k in (0, len(others))):
            raise ShapeError(at_user_line(f"np.linalg.multi_dot: operand {k} is {x._node.type}, not a matrix"))
    for x in others:
        result = dot(result, x)
    return result
