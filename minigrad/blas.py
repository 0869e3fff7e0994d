"""The BLAS that NumPy itself uses in this process: by address, for calls from generated code, and called from here.

NumPy tells how it was built (``numpy.show_config``), but not where its BLAS is. Its extension module is linked with
it, though, so that looking a symbol up in the extension finds the library's. Names differ between builds: with
64-bit integers a suffix, in NumPy's own wheels a prefix too. A trial checks each function before its first use.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from threading import get_ident

import numpy as np

from .immutable import Frozen, Record
from .locks import Lock

# Prefix, suffix and the bits of an integer, the likelier first.
_SPELLINGS = (("scipy_", "64_", 64), ("", "64_", 64), ("", "_64", 64), ("scipy_", "", 32), ("", "", 32),
              ("", "$NEWLAPACK$ILP64", 64), ("", "$NEWLAPACK", 32))
_LETTERS: dict[np.dtype, tuple[str, type[ctypes.c_float | ctypes.c_double]]] = {
    np.dtype(np.float32): ("s", ctypes.c_float), np.dtype(np.float64): ("d", ctypes.c_double)}
ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112
UPPER, LOWER, NON_UNIT, LEFT, RIGHT = 121, 122, 131, 141, 142


class Blas(Frozen, Record):
    """Addresses in the BLAS of this process.

    Attributes
    ----------
    functions : dict of str to int
        The addresses of ``sgemm``, ``sgemv``, ``strsm``, ``strsv``, and those of float64.
    bits : int
        The width of its integers: 32 or 64.
    """

    functions: dict[str, int]
    bits: int


@functools.cache
def find() -> tuple[Blas | None, str]:
    """Return NumPy's BLAS or None, and the symbol of float32's matrix product or the reason, in words."""
    try:
        library = ctypes.CDLL(_extension())
    except (ImportError, OSError) as error:
        return None, f"NumPy's extension module cannot be opened to look for its BLAS: {error}"
    for prefix, suffix, bits in _SPELLINGS:
        try:
            functions = {f"{letter}{kind}": ctypes.cast(
                getattr(library, f"{prefix}cblas_{letter}{kind}{suffix}"), ctypes.c_void_p).value or 0
                for letter, _ in _LETTERS.values() for kind in ("gemm", "gemv", "trsm", "trsv")}
        except AttributeError:  # no such function
            continue
        symbol = f"{prefix}cblas_sgemm{suffix}"
        found = Blas(functions, bits)
        if not all(works(functions[f"{letter}gemm"], functions[f"{letter}gemv"], dtype, bits)
                   for dtype, (letter, _) in _LETTERS.items()):
            return None, f"{symbol} was found, but does not multiply as NumPy does"
        if not all(_solves(found, dtype) for dtype in _LETTERS):
            return None, f"{prefix}cblas_strsm{suffix} was found, but does not solve as NumPy does"
        return found, symbol
    return None, "NumPy's extension module is linked with no BLAS whose names are known (NumPy was built without one?)"


def _extension() -> str:
    """Return the file of NumPy's compiled core, whose name is not part of NumPy's public interface."""
    return str(importlib.import_module("numpy._core._multiarray_umath").__file__)


def works(gemm: int, gemv: int, dtype: np.dtype, bits: int) -> bool:
    """Return whether the functions at these addresses multiply as NumPy does.

    The matrices hold small integers, so that each right result is exact. They have more rows and columns than are asked
    for, so that sizes, strides and flags that come in a wrong order show; and they are smaller than their memory, for
    functions that take them to be of a wider type.
    """
    scalar = _LETTERS[np.dtype(dtype)][1]
    integer = ctypes.c_int64 if bits == 64 else ctypes.c_int32
    enum = ctypes.c_int
    m, n, k = 3, 5, 4
    a = np.arange(4 * m * 7, dtype=dtype).reshape(4 * m, 7)[:m]
    b = (np.arange(4 * n * 6, dtype=dtype) - 9).reshape(4 * n, 6)[:n]
    c = np.full((4 * m, 8), -1, dtype)[:m]
    matrix = ctypes.CFUNCTYPE(None, enum, enum, enum, integer, integer, integer, scalar, ctypes.c_void_p, integer,
                              ctypes.c_void_p, integer, scalar, ctypes.c_void_p, integer)(gemm)
    matrix(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, m, n, k, 1, a.ctypes.data, 7, b.ctypes.data, 6, 0, c.ctypes.data, 8)
    y = np.full(8 * m, -1, dtype)[:2 * m]
    vector = ctypes.CFUNCTYPE(None, enum, enum, integer, integer, scalar, ctypes.c_void_p, integer,
                              ctypes.c_void_p, integer, scalar, ctypes.c_void_p, integer)(gemv)
    vector(ROW_MAJOR, NO_TRANSPOSE, m, k, 1, a.ctypes.data, 7, b.ctypes.data, 1, 0, y.ctypes.data, 2)
    expected = a[:, :k] @ b[:, :k].T
    return (np.array_equal(c[:, :n], expected) and bool(np.all(c[:, n:] == -1))
            and np.array_equal(y[::2], expected[:, 0]) and bool(np.all(y[1::2] == -1)))


@functools.cache
def description() -> str:
    """Return the version and the kernels of NumPy's BLAS, as far as it tells them."""
    found, symbol = find()
    if found is None:
        return "none"
    return _openblas_text("config") or f"{symbol} of NumPy {np.__version__}"


@functools.cache
def has_avx512() -> bool:
    """Return whether the kernels of NumPy's BLAS use AVX-512, as far as it is an OpenBLAS.

    They need not on a CPU that has it: builds may lack kernels for it, and OPENBLAS_CORETYPE chooses others.
    """
    return _openblas_text("corename").lower() in ("skylakex", "cooperlake", "sapphirerapids")


def _openblas_text(name: str) -> str:
    """Return the text of ``openblas_get_NAME``; none of other libraries."""
    function = _openblas_functions(f"get_{name}")
    if function is None:
        return ""
    function[0].restype = ctypes.c_char_p
    return str(function[0]().decode())


def _openblas_functions(*names: str) -> list[ctypes._NamedFuncPointer] | None:
    """Return functions of an OpenBLAS; None for other libraries."""
    try:
        library = ctypes.CDLL(_extension())
    except (ImportError, OSError):
        return None
    for prefix, suffix, _ in _SPELLINGS:
        try:
            return [getattr(library, f"{prefix}openblas_{name}{suffix}") for name in names]
        except AttributeError:  # no such function
            continue
    return None


def symbols() -> dict[str, int]:
    """Return the addresses for `jit.load` under the names that generated code uses; none without a BLAS."""
    blas, _ = find()
    return {} if blas is None else {f"mg_cblas_{name}": address for name, address in blas.functions.items()}


# -- triangular systems --------------------------------------------------------------------------------------


def solve_triangular(blas: Blas, a: np.ndarray, b: np.ndarray, lower: bool) -> np.ndarray:
    """Return the solution of ``a x = b`` for matrices of one dtype, float32 or float64.

    Parameters
    ----------
    blas : Blas
    a : array, shape (..., n, n)
        One triangle is read. A transposed matrix is read where it lies.
    b : array, shape (..., n, k)
    lower : bool
        Which triangle.

    Raises
    ------
    LinAlgError
        If an element of the diagonal is 0.
    """
    if not a.diagonal(0, -2, -1).all():
        raise np.linalg.LinAlgError("Singular matrix")
    x = np.array(b, order="C")
    (n, k), size = x.shape[-2:], a.itemsize
    if not x.size:
        return x
    if a.strides[-1] != size and a.strides[-2] != size:
        a = np.ascontiguousarray(a)
    turned = a.strides[-1] != size
    width = a.strides[-1 if turned else -2] // size
    if width < n:  # of a matrix that repeats, or has one row
        a, turned, width = np.ascontiguousarray(a), False, n
    triangle = LOWER if lower != turned else UPPER
    order = TRANSPOSE if turned else NO_TRANSPOSE
    matrix, vector = _triangular(blas, a.dtype)
    for each, of_each in ((a, x),) if a.ndim == 2 else zip(_matrices(a), _matrices(x), strict=True):
        if k == 1:
            vector(ROW_MAJOR, triangle, order, NON_UNIT, n, each.ctypes.data, width, of_each.ctypes.data, 1)
        else:
            matrix(ROW_MAJOR, LEFT, triangle, order, NON_UNIT, n, k, 1, each.ctypes.data, width,
                   of_each.ctypes.data, k)
    return x


def _matrices(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the matrices of a stack."""
    return (x[i] for i in np.ndindex(x.shape[:-2]))


@functools.cache
def _triangular(blas: Blas, dtype: np.dtype) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the functions for several right-hand sides and for one."""
    letter, scalar = _LETTERS[dtype]
    integer = ctypes.c_int64 if blas.bits == 64 else ctypes.c_int32
    enum, array = ctypes.c_int, ctypes.c_void_p
    matrix = ctypes.CFUNCTYPE(None, enum, enum, enum, enum, enum, integer, integer, scalar, array, integer, array,
                              integer)
    vector = ctypes.CFUNCTYPE(None, enum, enum, enum, enum, integer, array, integer, array, integer)
    return matrix(blas.functions[f"{letter}trsm"]), vector(blas.functions[f"{letter}trsv"])


def _solves(blas: Blas, dtype: np.dtype) -> bool:
    """Return whether triangular systems of small integers have their exact solutions, as in `works`."""
    a = np.array([[2, 9, 9, 9], [1, -1, 9, 9], [3, 2, 4, 9], [9, 9, 9, 9]], dtype)
    x = np.array([[1, -2], [3, 5], [-4, 2]], dtype)
    for matrix, lower in ((a[:3, :3], True), (a[:3, :3].T, False)):
        triangle = np.tril(matrix) if lower else np.triu(matrix)
        for expected in (x, x[:, :1]):
            if not np.array_equal(solve_triangular(blas, matrix, triangle @ expected, lower), expected):
                return False
    return True


@functools.cache
def _thread_functions() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return the functions that get and set the number of threads of an OpenBLAS; None for other libraries."""
    functions = _openblas_functions("get_num_threads", "set_num_threads")
    if functions is None:
        return None
    get, put = functions
    get.restype, put.argtypes, put.restype = ctypes.c_int, [ctypes.c_int], None
    return get, put


class _Limit:
    """The limits of those blocks that run now, and the number of threads before the first."""

    def __init__(self) -> None:
        self.lock, self.before, self.now = Lock(), 0, 0
        self.blocks: list[tuple[int, int]] = []  # the thread that runs the block, and its limit

    def enter(self, get: Callable[[], int], put: Callable[[int], None], block: tuple[int, int]) -> None:
        with self.lock:
            if not self.blocks:
                self.before = self.now = get()
            self.blocks.append(block)
            if block[1] < self.now:
                self.now = block[1]
                put(self.now)

    def leave(self, put: Callable[[int], None], block: tuple[int, int]) -> None:
        with self.lock:
            self.blocks.remove(block)
            self.apply(put)

    def apply(self, put: Callable[[int], None]) -> None:
        """Set the least of the limits, or the number of before."""
        number = min([self.before, *(n for _, n in self.blocks)]) if self.blocks else self.before
        if number != self.now:
            self.now = number
            put(number)

    def after_fork(self) -> None:
        """Drop the blocks of threads that a child does not have."""
        functions = _thread_functions() if self.blocks else None
        if functions is not None:
            self.blocks = [block for block in self.blocks if block[0] == get_ident()]
            self.apply(functions[1])


_limit = _Limit()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_limit.after_fork)


def can_limit() -> bool:
    """Return whether `limited` has an effect."""
    return _thread_functions() is not None


class limited:
    """Run a block of code with at most some threads of BLAS, as far as NumPy's is an OpenBLAS.

    The number belongs to the process. Of blocks that overlap, the least limit holds, and the last one to end sets the
    number back. A block costs about as much as a small product, so that this is a class: a generator takes longer.
    """

    __slots__ = ("_block", "_functions")

    def __init__(self, threads: int) -> None:
        self._functions, self._block = _thread_functions(), (get_ident(), threads)

    def __enter__(self) -> None:
        if self._functions is not None:
            _limit.enter(*self._functions, self._block)

    def __exit__(self, *error: object) -> None:
        if self._functions is not None:
            _limit.leave(self._functions[1], self._block)
