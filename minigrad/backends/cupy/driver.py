"""The GPU: memory and streams through CuPy; modules, launches and graphs through the driver, products through cuBLAS.

Programs see the device as a `Cuda`. CuPy refuses cuBLAS during a capture, so `blas` calls it, with handles and
workspaces of our own.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence

from ...errors import MinigradError, at_user_line
from . import nvrtc
from .blas import Blas
from .device import Call, Device, Launched, Packed
from .libraries import find

INSTALL = "pip install 'minigrad[cuda]'"
_THREAD_LOCAL = 1  # capture mode: other threads may do as they like
PRECISIONS = ("highest", "tf32")


@functools.cache
def _libcuda() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def missing() -> str:
    """Return in one line the missing part for running on a GPU, and the remedy; an empty text if none is missing."""
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

    _fields_ = [("func", ctypes.c_void_p), *((f"{size}{axis}", ctypes.c_uint) for size in ("grid", "block")
                                             for axis in "XYZ"), ("shared", ctypes.c_uint),
                *((name, ctypes.c_void_p) for name in ("kernelParams", "extra", "kern", "ctx"))]


class Graph:
    """A captured graph; each launch reads the arguments of its first nodes anew."""

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

    def __del__(self) -> None:
        self._cuda.library.cuGraphExecDestroy(self._handle)


class Cuda(Device):
    """The current device.

    Attributes
    ----------
    arch : str
        Such as ``"sm_90"``.
    """

    def __init__(self) -> None:
        import array_api_compat.cupy
        import cupy

        super().__init__(cupy, array_api_compat.cupy)
        library, cublas = _libcuda(), find("cublas")
        assert library is not None
        assert cublas is not None
        self.library = library
        self.arch = f"sm_{cupy.cuda.Device().compute_capability}"
        self._modules: dict[str, ctypes.c_void_p] = {}
        self._lock = threading.RLock()
        self._ready = threading.local()
        self.ready()
        self.blas = Blas(cublas, find("cublasLt"))

    # -- calls ----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        super().ready()
        if not getattr(self._ready, "done", False):
            self._cupy.cuda.Device(self.number).use()
            self._cupy.cuda.runtime.free(0)  # a first call of the runtime makes the primary context current
            self._ready.done = True

    def call(self, name: str, *args: object) -> None:
        """Call a function of the driver; raise `MinigradError` if it fails."""
        status = getattr(self.library, name)(*args)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(status, ctypes.byref(text))
            raise MinigradError(f"{name}: {(text.value or b'?').decode()} ({status})")

    # -- kernels --------------------------------------------------------------------------------------------

    def function(self, text: str, name: str) -> ctypes.c_void_p:
        with self._lock:
            if text not in self._modules:
                module = ctypes.c_void_p()
                self.call("cuModuleLoadData", ctypes.byref(module), nvrtc.compile(text, self.arch).cubin)
                self._modules[text] = module
            function = ctypes.c_void_p()
            self.call("cuModuleGetFunction", ctypes.byref(function), self._modules[text], name.encode())
            return function

    def launch(self, function: object, blocks: int, threads: int, params: Packed) -> None:
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(self.stream()), params,
                  None)

    def clear(self, address: int, nbytes: int) -> None:
        self.call("cuMemsetD8Async", ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes),
                  ctypes.c_void_p(self.stream()))

    # -- graphs ---------------------------------------------------------------------------------------------

    def capture(self, first: Sequence[Launched], launches: Call) -> Graph:
        handle = ctypes.c_void_p(self._capture_stream.ptr)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        with self._lock:
            self.call("cuStreamBeginCapture_v2", handle, _THREAD_LOCAL)
            self._own.capturing = self._capture_stream
            try:
                for launched in first:
                    self.launch(*launched)
                launches()
            finally:
                self._own.capturing = None
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
        """Return a graph's first nodes, which form a chain."""
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
        If there is none; the message names the missing part.
    """
    check()
    import cupy

    return _on(cupy.cuda.runtime.getDevice())
