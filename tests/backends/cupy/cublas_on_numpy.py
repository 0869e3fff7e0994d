"""cuBLAS and cublasLt on NumPy's memory: they take what `ctypes` would hand over, and refuse what the libraries refuse.

Matrices lie column by column. Results are computed, or recorded where the stream is captured.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.backends.cupy.blas import Algorithm, Proposal

INVALID, NOT_SUPPORTED = 7, 15
DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2")}
KINDS = {(68, 0, 0), (77, 0, 0), (70, 1, 1), (68, 0, 2)}  # compute type, type of alpha and beta, type of the matrices
SCALES = {0: ctypes.c_float, 1: ctypes.c_double}
PLAIN, BIAS = 1, 4
i32, u32, i64, u64, address = ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
ATTRIBUTES = {"MatmulDesc": {3: i32, 4: i32, 7: u32, 8: address}, "MatrixLayout": {5: i32, 6: i64},
              "MatmulPreference": {1: u64, 5: u32, 6: u32}}
CREATED = {"MatmulDesc": (int, int), "MatrixLayout": (int, u64, u64, i64), "MatmulPreference": ()}


class Refused(Exception):
    """A status that is not 0."""


def ask(condition: bool, status: int = INVALID) -> None:
    if not condition:
        raise Refused(status)


def status(function: Callable[..., None]) -> Callable[..., int]:
    @functools.wraps(function)
    def call(*args: Any) -> int:
        try:
            function(*args)
        except Refused as error:
            return error.args[0]
        return 0

    return call


def memory(at: int, n: int, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer((ctypes.c_char * (n * dtype.itemsize)).from_address(at), dtype)


class Matrix:
    """Matrices of one size: rows and columns as they are stored, and how far apart columns and matrices are."""

    def __init__(self, at: int, kind: int, rows: int, columns: int, lead: int, batch: int = 1, apart: int = 0):
        ask(lead >= rows > 0 and columns > 0 and batch > 0 and at % DTYPES[kind].itemsize == 0)
        self.at, self.dtype, self.shape, self.strides = at, DTYPES[kind], (batch, rows, columns), (apart, 1, lead)
        self.reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1

    @property
    def range(self) -> tuple[int, int]:
        return self.at, self.at + self.reach * self.dtype.itemsize

    def array(self) -> np.ndarray:
        return np.lib.stride_tricks.as_strided(memory(self.at, self.reach, self.dtype), self.shape,
                                               [s * self.dtype.itemsize for s in self.strides])


def multiply(device: Any, stream: int, a: Matrix, b: Matrix, d: Matrix, turned: tuple[int, int], room: tuple[int, int],
             vector: int = 0, epilogue: int = PLAIN) -> None:
    """Enqueue ``d = a @ b``, a and b transposed where `turned`, with an epilogue."""
    axes = [(0, 2, 1) if t else (0, 1, 2) for t in turned]
    (_, m, k), (_, inner, n) = ([x.shape[i] for i in axis] for x, axis in zip((a, b), axes, strict=True))
    ask(k == inner and d.shape[1:] == (m, n) and a.shape[0] == b.shape[0] == d.shape[0])
    ask(set(turned) <= {0, 1} and room[0] % 256 == 0)

    def run() -> None:
        left, right = (x.array().transpose(axis) for x, axis in zip((a, b), axes, strict=True))
        made = np.matmul(left, right)
        if epilogue == BIAS:
            made = made + memory(vector, m, d.dtype)[:, None]
        d.array()[...] = made
        memory(room[0], min(room[1], 4096), np.dtype("u1"))[:] = 0x55

    end = vector + m * d.dtype.itemsize * (epilogue == BIAS)
    device.enqueue(stream, "gemm", run, [a.range, b.range, (vector, end)], [d.range, (room[0], sum(room))])


class Cublas:
    """The functions of cuBLAS that the backend calls."""

    def __init__(self, device: Any):
        self._device, self._stream, self._room = device, 0, (0, 0)

    @status
    def cublasCreate_v2(self, handle: Any) -> None:
        handle._obj.value = 0xB1A5

    @status
    def cublasSetStream_v2(self, handle: Any, stream: Any) -> None:
        self._stream, self._room = stream.value or 0, (0, 0)  # a new stream has the library's own workspace

    @status
    def cublasSetWorkspace_v2(self, handle: Any, room: Any, nbytes: Any) -> None:
        self._room = room.value, nbytes.value

    @status
    def cublasGemmEx(self, handle: Any, turned_a: int, turned_b: int, m: int, n: int, k: int, one: Any, a: Any,
                     a_kind: int, a_lead: int, b: Any, b_kind: int, b_lead: int, zero: Any, c: Any, c_kind: int,
                     c_lead: int, compute: int, algorithm: int) -> None:
        self._multiply(turned_a, turned_b, m, n, k, one, (a, a_kind, a_lead, 0), (b, b_kind, b_lead, 0), zero,
                       (c, c_kind, c_lead, 0), 1, compute)

    @status
    def cublasGemmStridedBatchedEx(self, handle: Any, turned_a: int, turned_b: int, m: int, n: int, k: int, one: Any,
                                   a: Any, a_kind: int, a_lead: int, a_apart: Any, b: Any, b_kind: int, b_lead: int,
                                   b_apart: Any, zero: Any, c: Any, c_kind: int, c_lead: int, c_apart: Any, batch: int,
                                   compute: int, algorithm: int) -> None:
        ask(all(isinstance(x, ctypes.c_longlong) for x in (a_apart, b_apart, c_apart)))
        self._multiply(turned_a, turned_b, m, n, k, one, (a, a_kind, a_lead, a_apart.value),
                       (b, b_kind, b_lead, b_apart.value), zero, (c, c_kind, c_lead, c_apart.value), batch, compute)

    def _multiply(self, turned_a: int, turned_b: int, m: int, n: int, k: int, one: Any, a: tuple, b: tuple, zero: Any,
                  c: tuple, batch: int, compute: int) -> None:
        scale = next(s for s, number in SCALES.items() if isinstance(one._obj, number))
        ask((compute, scale, a[1]) in KINDS and a[1] == b[1] == c[1])
        ask((one._obj.value, zero._obj.value) == (1, 0) and m < 2**31 and n < 2**31 and k < 2**31)
        if k:  # the result of a sum over nothing stays as it was
            sizes = ((k, m) if turned_a else (m, k), (n, k) if turned_b else (k, n), (m, n))
            found = [Matrix(at.value, kind, *size, lead, batch, apart)
                     for (at, kind, lead, apart), size in zip((a, b, c), sizes, strict=True)]
            multiply(self._device, self._stream, *found, (turned_a, turned_b), self._room)


class CublasLt:
    """The functions of cublasLt that the backend calls.

    Attributes
    ----------
    algorithms : int
        How many it proposes.
    used : list of int
        The algorithm of each product.
    """

    MARK = 0xA160

    def __init__(self, device: Any):
        self._device, self.algorithms, self.used = device, 3, []
        self.made: dict[int, dict[Any, Any]] = {}
        self._next = 0x1000

    def __getattr__(self, name: str) -> Callable[..., int]:
        for kind in ATTRIBUTES:
            for verb in ("Create", "SetAttribute", "Destroy"):
                if name == f"cublasLt{kind}{verb}":
                    return status(functools.partial(getattr(self, f"_{verb}"), kind))
        raise AttributeError(name)

    @status
    def cublasLtCreate(self, handle: Any) -> None:
        handle._obj.value = 0x17

    def _Create(self, kind: str, out: Any, *args: Any) -> None:
        ask([type(x) for x in args] == list(CREATED[kind]))
        self._next += 16
        out._obj.value = self._next
        self.made[self._next] = {"kind": kind, "args": [getattr(x, "value", x) for x in args]}

    def _SetAttribute(self, kind: str, which: Any, attribute: int, value: Any, nbytes: Any) -> None:
        ask(attribute in ATTRIBUTES[kind] and type(value._obj) is ATTRIBUTES[kind][attribute])
        ask(nbytes.value == ctypes.sizeof(value._obj))
        self._of(which, kind)[attribute] = value._obj.value

    def _Destroy(self, kind: str, which: Any) -> None:
        self._of(which, kind)
        del self.made[which._as_parameter_.value]

    def _of(self, which: Any, kind: str) -> dict[Any, Any]:
        found = self.made.get(which._as_parameter_.value, {})
        ask(found.get("kind") == kind)
        return found

    def _matrix(self, at: int, which: Any) -> Matrix:
        own = self._of(which, "MatrixLayout")
        kind, rows, columns, lead = own["args"]
        return Matrix(at, kind, rows, columns, lead, own.get(5, 1), own.get(6, 0))

    def _operation(self, which: Any, layout: Any) -> dict[Any, Any]:
        own = self._of(which, "MatmulDesc")
        ask((*own["args"], self._of(layout, "MatrixLayout")["args"][0]) in KINDS)
        ask(own.get(7, PLAIN) in (PLAIN, BIAS))
        ask(own.get(7, PLAIN) == PLAIN or own["args"][0] != 70, NOT_SUPPORTED)  # so that tests see both ways
        return own

    @status
    def cublasLtMatmulAlgoGetHeuristic(self, handle: Any, operation: Any, a: Any, b: Any, c: Any, d: Any,
                                       preference: Any, asked: int, found: Any, count: Any) -> None:
        own, wanted = self._operation(operation, d), self._of(preference, "MatmulPreference")
        ask(asked == len(found) and c is d and all(n & (n - 1) == 0 < n <= 256 for n in (wanted[5], wanted[6])))
        for which in (a, b, d):
            self._matrix(0, which)
        assert ctypes.sizeof(Proposal) == 96
        count._obj.value = min(self.algorithms, asked)
        for k in range(count._obj.value):
            found[k].algorithm.data[:5] = [self.MARK, k, wanted[5], wanted[6], own.get(7, PLAIN)]
            found[k].workspace = min(wanted[1], 1 << 20)

    @status
    def cublasLtMatmul(self, handle: Any, operation: Any, one: Any, a: Any, a_of: Any, b: Any, b_of: Any, zero: Any,
                       c: Any, c_of: Any, d: Any, d_of: Any, algorithm: Any, room: Any, nbytes: Any,
                       stream: Any) -> None:
        own, chosen = self._operation(operation, d_of), algorithm._obj
        assert isinstance(chosen, Algorithm)
        mark, number, align_a, align_b, epilogue = chosen.data[:5]
        ask(mark == self.MARK and epilogue == own.get(7, PLAIN))
        ask(a.value % align_a == 0 and b.value % align_b == 0 and d.value % 256 == 0)
        ask(isinstance(one._obj, SCALES[own["args"][1]]) and (one._obj.value, zero._obj.value) == (1, 0))
        ask(c.value == d.value and c_of is d_of)
        ask(epilogue == PLAIN or bool(own.get(8)))
        self.used.append(number)
        multiply(self._device, stream.value or 0, self._matrix(a.value, a_of), self._matrix(b.value, b_of),
                 self._matrix(d.value, d_of), (own.get(3, 0), own.get(4, 0)), (room.value, nbytes.value),
                 own.get(8) or 0, epilogue)
