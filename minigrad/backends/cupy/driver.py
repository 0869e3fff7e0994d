"""The GPU: memory through CuPy; modules, launches, graphs and matrix products through the driver and cuBLAS.

`Cuda` is all that a program knows of a device. CuPy refuses cuBLAS during a capture, so products are called here,
with a handle and a workspace of our own.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import MinigradError, at_user_line
from . import nvrtc
from .device import Device, Launched
from .libraries import find

INSTALL = "pip install 'minigrad[cuda]'"
_NO_MEMORY = 2
_THREAD_LOCAL = 1  # capture mode: what other threads do does not matter
_TYPES = {"float32": (0, 68), "float64": (1, 70), "float16": (2, 68)}  # cudaDataType, cublasComputeType
_TF32 = 77
BLAS_ROOM = 32 << 20
PRECISIONS = ("highest", "tf32")


@functools.cache
def _libcuda() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def missing() -> str:
    """Say in one line what is missing to run on a GPU, and what to install; an empty text where nothing is."""
    try:
        import cupy
    except ImportError:
        return f"CuPy is not installed: {INSTALL}"
    cuda = _libcuda()
    if cuda is None:
        return "no NVIDIA driver found (libcuda.so.1): install the driver of the graphics card"
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "an NVIDIA driver is installed, but no GPU is found: see nvidia-smi"
    if not cupy.cuda.is_available():
        return (f"the NVIDIA driver (CUDA {cupy.cuda.runtime.driverGetVersion()}) is too old for this CuPy (CUDA "
                f"{cupy.cuda.runtime.runtimeGetVersion()}): update the driver, or install cupy-cuda12x")
    if find("nvrtc") is None:
        return nvrtc.MISSING
    if find("cublas") is None:
        return "cuBLAS, which multiplies matrices, is not installed: pip install nvidia-cublas"
    try:
        import array_api_compat  # noqa: F401
    except ImportError:
        return f"array-api-compat is not installed: {INSTALL}"
    return ""


def check() -> None:
    """Raise `MinigradError` unless programs can run on a GPU."""
    why = missing()
    if why:
        raise MinigradError(at_user_line(f"backend 'cupy': {why}"))


class NodeParams(ctypes.Structure):
    """The driver's ``CUDA_KERNEL_NODE_PARAMS_v2``."""

    _fields_ = [("func", ctypes.c_void_p), *((f"{what}{axis}", ctypes.c_uint) for what in ("grid", "block")
                                             for axis in "XYZ"), ("shared", ctypes.c_uint),
                *((name, ctypes.c_void_p) for name in ("kernelParams", "extra", "kern", "ctx"))]


class Graph:
    """A captured graph, and the nodes whose arguments each launch reads anew."""

    def __init__(self, cuda: Cuda, handle: ctypes.c_void_p, nodes: Sequence[ctypes.c_void_p],
                 first: Sequence[Launched]):
        self._cuda, self._handle = cuda, handle
        self._first = [(node, NodeParams(function, blocks, 1, 1, threads, 1, 1, 0, ctypes.addressof(params)), params)
                       for node, (function, blocks, threads, params) in zip(nodes, first, strict=True)]

    def launch(self) -> None:
        call = self._cuda.call
        for node, values, _ in self._first:
            call("cuGraphExecKernelNodeSetParams_v2", self._handle, node, ctypes.byref(values))
        call("cuGraphLaunch", self._handle, ctypes.c_void_p(self._cuda.stream()))

    def __del__(self):
        self._cuda.library.cuGraphExecDestroy(self._handle)


class Cuda(Device):
    """The current device.

    Attributes
    ----------
    arch : str
        Such as ``"sm_90"``.
    """

    def __init__(self) -> None:
        check()
        import array_api_compat.cupy
        import cupy

        super().__init__(cupy, array_api_compat.cupy)
        self.library = _libcuda()
        self.arch = f"sm_{cupy.cuda.Device().compute_capability}"
        self._modules: dict[str, ctypes.c_void_p] = {}
        self._lock = threading.RLock()
        self._blas = find("cublas")
        self._handle = ctypes.c_void_p()
        self._ready = threading.local()
        self.ready()
        self._call_blas("cublasCreate_v2", ctypes.byref(self._handle))
        self._capture_stream = cupy.cuda.Stream(non_blocking=True)

    # -- calls ----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        super().ready()
        if not getattr(self._ready, "done", False):
            self._cupy.cuda.Device(self.number).use()
            self._cupy.cuda.runtime.free(0)  # a first call of the runtime makes the primary context current
            self._ready.done = True

    def call(self, name: str, *args: Any) -> None:
        status = getattr(self.library, name)(*args)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(status, ctypes.byref(text))
            raise MinigradError(f"{name}: {(text.value or b'?').decode()} ({status})")

    def _call_blas(self, name: str, *args: Any) -> None:
        status = getattr(self._blas, name)(*args)
        if status:
            raise MinigradError(f"{name} failed ({status})")

    def stream(self) -> int:
        """Return the stream that work goes to: the caller's current one, or the one that is being captured."""
        captured = getattr(self._ready, "capturing", None)
        return super().stream() if captured is None else captured

    # -- kernels --------------------------------------------------------------------------------------------

    def function(self, text: str, name: str) -> Any:
        with self._lock:
            if text not in self._modules:
                module = ctypes.c_void_p()
                self.call("cuModuleLoadData", ctypes.byref(module), nvrtc.compile(text, self.arch).cubin)
                self._modules[text] = module
            function = ctypes.c_void_p()
            self.call("cuModuleGetFunction", ctypes.byref(function), self._modules[text], name.encode())
            return function

    def launch(self, function: Any, blocks: int, threads: int, params: Any) -> None:
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(self.stream()), params,
                  None)

    def clear(self, address: int, nbytes: int) -> None:
        self.call("cuMemsetD8Async", ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes),
                  ctypes.c_void_p(self.stream()))

    def multiply(self, dtype: np.dtype, precision: str, sizes: tuple[int, int, int, int], x: tuple, y: tuple, out: int,
                 room: int) -> None:
        """Multiply by cuBLAS: a product in row-major order is that of the transposes in cuBLAS's order."""
        batch, m, n, k = sizes
        number = ctypes.c_double if dtype.name == "float64" else ctypes.c_float
        one, zero = number(1), number(0)
        kind, compute = _TYPES[dtype.name]
        if precision == "tf32" and dtype.name == "float32":
            compute = _TF32
        (xp, x_turned, x_lead, x_apart), (yp, y_turned, y_lead, y_apart) = x, y
        far = ctypes.c_longlong
        left, right = (ctypes.c_void_p(yp), kind, y_lead), (ctypes.c_void_p(xp), kind, x_lead)
        first = self._handle, int(y_turned), int(x_turned), n, m, k, ctypes.byref(one)
        last = ctypes.byref(zero), ctypes.c_void_p(out), kind, n
        with self._lock:
            self._call_blas("cublasSetStream_v2", self._handle, ctypes.c_void_p(self.stream()))
            self._call_blas("cublasSetWorkspace_v2", self._handle, ctypes.c_void_p(room), ctypes.c_size_t(BLAS_ROOM))
            if batch == 1:  # cuBLAS chooses among more kernels
                self._call_blas("cublasGemmEx", *first, *left, *right, *last, compute, -1)
            else:
                self._call_blas("cublasGemmStridedBatchedEx", *first, *left, far(y_apart), *right, far(x_apart), *last,
                                far(m * n), batch, compute, -1)

    # -- graphs ---------------------------------------------------------------------------------------------

    def capture(self, first: Sequence[Launched], rest: Callable[[], None]) -> Graph:
        stream = self._capture_stream.ptr
        handle = ctypes.c_void_p(stream)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        with self._lock:
            self.call("cuStreamBeginCapture_v2", handle, _THREAD_LOCAL)
            self._ready.capturing = stream
            try:
                for launched in first:
                    self.launch(*launched)
                rest()
            finally:
                self._ready.capturing = None
                status = self.library.cuStreamEndCapture(handle, ctypes.byref(graph))
            if status:
                raise MinigradError(f"cuStreamEndCapture failed ({status})")
            try:
                nodes = self._chain(graph, len(first))
                self.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
            finally:
                self.library.cuGraphDestroy(graph)
        return Graph(self, executable, nodes, first)

    def _chain(self, graph: ctypes.c_void_p, count: int) -> list[ctypes.c_void_p]:
        """Return a graph's first nodes, each of which waits for the one before."""
        nodes: list[ctypes.c_void_p] = []
        for _ in range(count):
            node, one = ctypes.c_void_p(), ctypes.c_size_t(1)
            if nodes:
                self.call("cuGraphNodeGetDependentNodes", nodes[-1], ctypes.byref(node), ctypes.byref(one))
            else:
                self.call("cuGraphGetRootNodes", graph, ctypes.byref(node), ctypes.byref(one))
            nodes.append(node)
        return nodes


@functools.lru_cache(maxsize=16)
def _on(device: int) -> Cuda:
    return Cuda()


def current() -> Cuda:
    """Return the current device.

    Raises
    ------
    MinigradError
        If there is none; the message says what is missing.
    """
    check()
    import cupy

    return _on(cupy.cuda.runtime.getDevice())
