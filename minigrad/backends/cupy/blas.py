"""Matrix products by cuBLAS: the fastest of cublasLt's algorithms, or cublasGemmEx where cublasLt has none.

cuBLAS stores matrices column by column, so it computes the transposes, ``outᵀ = yᵀ xᵀ``: its A is `y`, its B is `x`.
All numbers are those of cublas_api.h and cublasLt.h, version 13.1.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...errors import MinigradError
from .device import Call, Device

if TYPE_CHECKING:
    from .program import Workspace

ROOM = 32 << 20  # bytes of workspace for the products that run at the same time
ALIGN = 256  # bytes; of the arena's values
_TYPES = {"float32": (0, 68), "float64": (1, 70), "float16": (2, 68)}  # cudaDataType, cublasComputeType
_TF32 = 77
_ALGORITHMS = 8  # most proposals of cublasLt
_TIMED = 2e9  # least floating-point operations of one timing
EPILOGUES = {"": 1, "bias": 4}  # cublasLtEpilogue_t
_TRANSPOSED_A, _TRANSPOSED_B, _EPILOGUE, _BIAS = 3, 4, 7, 8  # cublasLtMatmulDescAttributes_t
_BATCH, _APART = 5, 6  # cublasLtMatrixLayoutAttribute_t
_WORKSPACE, _ALIGNMENT_A, _ALIGNMENT_B = 1, 5, 6  # cublasLtMatmulPreferenceAttributes_t


class Algorithm(ctypes.Structure):
    """``cublasLtMatmulAlgo_t``."""

    _fields_ = [("data", ctypes.c_uint64 * 8)]


class Proposal(ctypes.Structure):
    """``cublasLtMatmulHeuristicResult_t``."""

    _fields_ = [("algorithm", Algorithm), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
                ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4)]


@dataclass(frozen=True)
class Spec:
    """A product in row-major order, apart from its addresses.

    Attributes
    ----------
    sizes : tuple of int
        Batch, rows, columns and inner.
    x, y : (bool, int, int)
        Of each operand: whether it is transposed, the leading size, the distance between matrices.
    room : int
        Bytes of workspace.
    epilogue : {"", "bias"}
        ``bias`` adds a vector to each row.
    """

    dtype: np.dtype
    precision: str
    sizes: tuple[int, int, int, int]
    x: tuple[bool, int, int]
    y: tuple[bool, int, int]
    room: int = ROOM
    epilogue: str = ""


class Blas:
    """The handles of one device. `lt` is None where cublasLt is not installed."""

    def __init__(self, library: ctypes.CDLL, lt: ctypes.CDLL | None):
        self._library, self.lt = library, lt
        self.lock = threading.RLock()
        self.handle, self.lt_handle = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cublasCreate_v2", ctypes.byref(self.handle))
        if lt is not None:
            self.call("cublasLtCreate", ctypes.byref(self.lt_handle))

    def call(self, name: str, *args: object) -> None:
        """Call a function of cuBLAS or cublasLt; raise `MinigradError` if it fails."""
        status = getattr(self.lt if name.startswith("cublasLt") else self._library, name)(*args)
        if status:
            raise MinigradError(f"{name} failed ({status})")


class Descriptor:
    """A descriptor of cublasLt: ``MatmulDesc``, ``MatrixLayout`` or ``MatmulPreference``."""

    def __init__(self, blas: Blas, kind: str, *args: object):
        self._blas, self._kind, self._as_parameter_ = blas, kind, ctypes.c_void_p()
        self._destroy = getattr(blas.lt, f"cublasLt{kind}Destroy")
        blas.call(f"cublasLt{kind}Create", ctypes.byref(self._as_parameter_), *args)

    def set(self, attribute: int, value: ctypes._SimpleCData[int] | ctypes.c_void_p) -> None:
        """Set an attribute."""
        self._blas.call(f"cublasLt{self._kind}SetAttribute", self, attribute, ctypes.byref(value),
                        ctypes.c_size_t(ctypes.sizeof(value)))

    def __del__(self) -> None:
        if self._as_parameter_:
            self._destroy(self)


def _alignments(*addresses: int) -> tuple[int, ...]:
    return tuple([min(address & -address, ALIGN) for address in addresses])


class Product:
    """A product on a device: descriptors, and algorithms for each alignment of the operands, the best one first.

    Parameters
    ----------
    lt : bool
        Whether cublasLt may compute it.
    """

    def __init__(self, device: Device, spec: Spec, lt: bool = True):
        self._device, self._blas, self.spec = device, device.blas, spec
        self._kind, self._compute = _TYPES[spec.dtype.name]
        if spec.precision == "tf32" and spec.dtype.name == "float32":
            self._compute = _TF32
        number, scale = (ctypes.c_double, 1) if spec.dtype.name == "float64" else (ctypes.c_float, 0)
        self._one, self._zero = number(1), number(0)
        self._algorithms: dict[tuple[int, ...], list[Algorithm | None]] = {}
        self._timed: set[tuple[int, ...]] = set()
        self._lt = lt and self._blas.lt is not None and min(spec.sizes) > 0
        if self._lt:
            _, m, n, k = spec.sizes
            self._operation = Descriptor(self._blas, "MatmulDesc", self._compute, scale)
            self._operation.set(_TRANSPOSED_A, ctypes.c_int32(spec.y[0]))
            self._operation.set(_TRANSPOSED_B, ctypes.c_int32(spec.x[0]))
            self._operation.set(_EPILOGUE, ctypes.c_uint32(EPILOGUES[spec.epilogue]))
            self._layouts = [self._layout(k, n, *spec.y), self._layout(m, k, *spec.x),
                             self._layout(m, n, False, n, m * n)]

    def _layout(self, rows: int, columns: int, turned: bool, lead: int, apart: int) -> Descriptor:
        """Return the layout of a row-major matrix: the transpose of a column-major one."""
        stored = (rows, columns) if turned else (columns, rows)
        layout = Descriptor(self._blas, "MatrixLayout", self._kind, *map(ctypes.c_uint64, stored), ctypes.c_int64(lead))
        layout.set(_BATCH, ctypes.c_int32(self.spec.sizes[0]))
        layout.set(_APART, ctypes.c_int64(apart))
        return layout

    # -- algorithms -----------------------------------------------------------------------------------------

    def algorithms(self, x: int, y: int, bias: int = 0) -> list[Algorithm | None]:
        """Return the algorithms for operands at some addresses; None among them is cublasGemmEx."""
        key = _alignments(x, y, bias)
        with self._blas.lock:
            if key not in self._algorithms:
                self._algorithms[key] = self._search(key, bias)
            return self._algorithms[key]

    def _search(self, alignments: tuple[int, ...], bias: int) -> list[Algorithm | None]:
        plain: list[Algorithm | None] = [] if self.spec.epilogue else [None]
        if not self._lt or self._blas.lt is None:
            return plain
        preference = Descriptor(self._blas, "MatmulPreference")
        preference.set(_WORKSPACE, ctypes.c_uint64(self.spec.room))
        preference.set(_ALIGNMENT_A, ctypes.c_uint32(alignments[1]))
        preference.set(_ALIGNMENT_B, ctypes.c_uint32(alignments[0]))
        if self.spec.epilogue:
            self._operation.set(_BIAS, ctypes.c_void_p(bias))  # its alignment counts as well
        results, count = (Proposal * _ALGORITHMS)(), ctypes.c_int()
        a, b, d = self._layouts
        status = self._blas.lt.cublasLtMatmulAlgoGetHeuristic(
            self._blas.lt_handle, self._operation, a, b, d, d, preference, _ALGORITHMS, results, ctypes.byref(count))
        return plain if status else [r.algorithm for r in results[:count.value] if not r.state] + plain

    def tune(self, room: int, x: int, y: int, bias: int = 0) -> None:
        """Put the fastest algorithm for operands at some addresses first; the timings write to memory of their own."""
        algorithms, key, (batch, m, n, k) = self.algorithms(x, y, bias), _alignments(x, y, bias), self.spec.sizes
        if key in self._timed or not batch * m * n * k:
            return
        try:
            out = self._device.allocate(batch * m * n * self.spec.dtype.itemsize)
        except MemoryError:
            return  # it works without
        best = self._device.fastest([partial(self.run, a, out.ptr, room, x, y, bias) for a in algorithms], int(
            _TIMED / (2 * batch * m * n * k)))
        with self._blas.lock:
            self._algorithms[key] = [algorithms[best], *algorithms[:best], *algorithms[best + 1:]]
            self._timed.add(key)

    # -- running --------------------------------------------------------------------------------------------

    def __call__(self, out: int, room: int, x: int, y: int, bias: int = 0) -> None:
        """Multiply the matrices at some addresses; `room` is the address of the workspace.

        cuBLAS leaves the result as it was where the inner size is 0, so a sum over nothing is written here.
        """
        batch, m, n, k = self.spec.sizes
        if batch * m * n and k:
            self.run(self.algorithms(x, y, bias)[0], out, room, x, y, bias)
        elif batch * m * n:
            self._device.clear(out, batch * m * n * self.spec.dtype.itemsize)

    def run(self, algorithm: Algorithm | None, out: int, room: int, x: int, y: int, bias: int = 0) -> None:
        """Multiply by an algorithm; no size is 0."""
        blas, one, zero = self._blas, ctypes.byref(self._one), ctypes.byref(self._zero)
        a, b, d = map(ctypes.c_void_p, (y, x, out))
        workspace = ctypes.c_void_p(room), ctypes.c_size_t(self.spec.room)
        stream = ctypes.c_void_p(self._device.stream())
        with blas.lock:
            if algorithm is not None:
                if self.spec.epilogue:
                    self._operation.set(_BIAS, ctypes.c_void_p(bias))
                layout_a, layout_b, layout_d = self._layouts
                blas.call("cublasLtMatmul", blas.lt_handle, self._operation, one, a, layout_a, b, layout_b, zero, d,
                          layout_d, d, layout_d, ctypes.byref(algorithm), *workspace, stream)
                return
            batch, m, n, k = self.spec.sizes
            (x_turned, x_lead, x_apart), (y_turned, y_lead, y_apart) = self.spec.x, self.spec.y
            kind, far = self._kind, ctypes.c_longlong
            blas.call("cublasSetStream_v2", blas.handle, stream)
            blas.call("cublasSetWorkspace_v2", blas.handle, *workspace)
            first = blas.handle, int(y_turned), int(x_turned), n, m, k, one
            if batch == 1:  # cuBLAS chooses among more kernels
                blas.call("cublasGemmEx", *first, a, kind, y_lead, b, kind, x_lead, zero, d, kind, n, self._compute, -1)
            else:
                blas.call("cublasGemmStridedBatchedEx", *first, a, kind, y_lead, far(y_apart), b, kind, x_lead,
                          far(x_apart), zero, d, kind, n, far(m * n), batch, self._compute, -1)


class ProductCall:
    """A product in a workspace, whose `pointers` are the addresses of the arguments of the present run.

    Parameters
    ----------
    operands : sequence of (int or None, int)
        x, y, and a bias if there is one: an argument and an offset in bytes, or None and an address.
    room : int
        The address of the workspace.
    ways : sequence of (Product, int)
        The products that may compute it, the best one first, and the addresses of their results. The last one always
        can; it adds no bias.
    bias : sequence of callable
        The launches that add the bias after the last product.
    """

    def __init__(self, workspace: Workspace, operands: Sequence[tuple[int | None, int]], room: int,
                 ways: Sequence[tuple[Product, int]], bias: Sequence[Call]):
        self._workspace, self._operands, self._room, self._ways, self._bias = workspace, operands, room, ways, bias

    def _chosen(self) -> tuple[Product, int, list[int]]:
        """Return the product, and the addresses of its result and of its operands."""
        pointers = self._workspace.pointers
        addresses = [start if slot is None else pointers[slot] + start for slot, start in self._operands]
        for product, out in self._ways[:-1]:
            if product.algorithms(*addresses):
                return product, out, addresses
        return *self._ways[-1], addresses[:2]

    def __call__(self) -> None:
        product, out, addresses = self._chosen()
        product(out, self._room, *addresses)
        if product is self._ways[-1][0]:
            for call in self._bias:
                call()

    def tune(self) -> None:
        """Choose the fastest algorithm for its operands."""
        product, _, addresses = self._chosen()
        product.tune(self._room, *addresses)


class Fork:
    """The calls of products that run at the same time."""

    def __init__(self, device: Device, calls: Sequence[ProductCall]):
        self._device, self.calls = device, calls

    def __call__(self) -> None:
        self._device.fork(self.calls)

    def tune(self) -> None:
        for call in self.calls:
            call.tune()
