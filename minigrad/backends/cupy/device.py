"""Arrays, streams and timings of CuPy's device, which programs and the tests' stand-in share."""

from __future__ import annotations

import ctypes
import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ...errors import MinigradError, at_user_line
from ...primitive import adopt

if TYPE_CHECKING:
    from .blas import Blas

_PER_THREAD = 2  # the handle of the default stream of each thread
_PAGE = 512  # flags that are allocated together
BESIDE = 4  # calls that run at the same time, at most
_FASTER = 0.97  # a call is chosen if it takes less than this part of the first call's time
Number: TypeAlias = "ctypes.c_int | ctypes.c_longlong | ctypes.c_uint64 | ctypes.Array[ctypes.c_uint64]"
Packed: TypeAlias = "ctypes.Array[ctypes.c_void_p]"  # arguments of a launch: an array of their addresses
Launched: TypeAlias = tuple[object, int, int, Packed]  # a kernel, blocks, threads per block, arguments
Call: TypeAlias = Callable[[], None]


class Pointer(Protocol):
    """CuPy's pointer to memory, which it keeps allocated."""

    @property
    def ptr(self) -> int: ...

    def __add__(self, nbytes: int, /) -> Pointer: ...


class DeviceArray(Protocol):
    """CuPy's array."""

    @property
    def data(self) -> Pointer: ...

    def __setitem__(self, index: object, value: object, /) -> None: ...

    def fill(self, value: int, /) -> None: ...


class CapturedGraph(Protocol):
    """A graph of launches."""

    def launch(self) -> None:
        """Run the launches on the current stream."""


def pack(values: Sequence[Number]) -> Packed:
    """Return the arguments of a launch."""
    packed = (ctypes.c_void_p * max(len(values), 1))(*(ctypes.addressof(v) for v in values))
    packed.values = values  # type: ignore[attr-defined] # the addresses are valid as long
    return packed


class Device(ABC):
    """A device: arrays of a CuPy module, and launches on them.

    Parameters
    ----------
    cupy : module
    xp : namespace
        The functions that evaluate primitives on whole arrays.

    Attributes
    ----------
    number : int
        CuPy's number of the device.
    array : type
        ``array(shape, dtype, pointer)`` is the array at a pointer, and keeps the memory alive.
    blas : Blas
        The handles of cuBLAS.
    """

    blas: Blas
    array: Callable[[tuple[int, ...], np.dtype, Pointer], DeviceArray]

    def __init__(self, cupy: ModuleType, xp: ModuleType):
        self._cupy, self.xp, self.array = cupy, xp, cupy.ndarray
        self.number: int = cupy.cuda.runtime.getDevice()
        self._flags: list[tuple[np.ndarray, int]] = []
        self._pages: list[object] = []
        self._flag_lock = threading.Lock()
        self._own = threading.local()
        self._count = itertools.count()
        self._capture_stream, *self._sides = (cupy.cuda.Stream(non_blocking=True) for _ in range(BESIDE))
        self._forked, *self._joined = (cupy.cuda.Event(disable_timing=True) for _ in range(BESIDE))

    # -- order of work --------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Make the device's context that of the calling thread.

        Raises
        ------
        MinigradError
            If another device is current.
        """
        now = self._cupy.cuda.runtime.getDevice()
        if now != self.number:
            raise MinigradError(at_user_line(
                f"backend 'cupy': the program is compiled for GPU {self.number}, and GPU {now} is current. Call it in "
                f"`with cupy.cuda.Device({self.number}):`, or compile the function once for each GPU"))

    def stream(self) -> int:
        """Return the stream of launches: the caller's current one, or the one of a capture."""
        stream: Pointer = getattr(self._own, "capturing", None) or self._cupy.cuda.get_current_stream()
        return stream.ptr

    def queue(self) -> tuple[int, int]:
        """Return a key of the order of launches: the stream, and the thread if each has its own default stream."""
        stream = self.stream()
        if stream != _PER_THREAD:
            return stream, 0
        if not hasattr(self._own, "number"):
            self._own.number = next(self._count)
        return stream, self._own.number

    def wait(self) -> None:
        """Wait for the current stream."""
        self._cupy.cuda.get_current_stream().synchronize()

    # -- arrays ---------------------------------------------------------------------------------------------

    def argument(self, x: Any, dtype: np.dtype) -> DeviceArray:
        """Return an argument as a contiguous array; arrays of JAX and PyTorch are awaited."""
        if type(x) is not self.array or x.dtype != dtype or x.data.device_id != self.number:
            x = self.asarray(x, dtype)
        out: DeviceArray = x if x.flags.c_contiguous else self._cupy.ascontiguousarray(x)
        return out

    def asarray(self, x: object, dtype: np.dtype) -> Any:
        """Return an argument as an array of CuPy."""
        out = self._cupy.asarray(adopt(x), dtype)
        if out.device.id != self.number:
            self.ready()
            raise MinigradError(at_user_line(
                f"backend 'cupy': an argument of shape {out.shape} is on GPU {out.device.id}, and the program is "
                f"compiled for GPU {self.number}. Move the array, or compile the function once for each GPU"))
        return out

    def allocate(self, nbytes: int) -> Pointer:
        """Return the pointer to new memory."""
        try:
            out: Pointer = self._cupy.cuda.alloc(nbytes)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(str(error)) from None
        return out

    def zeros(self, nbytes: int) -> Pointer:
        """Return the pointer to new memory that holds zeros."""
        out = self.allocate(nbytes)
        self.array((nbytes,), np.dtype(np.uint8), out).fill(0)
        return out

    def release(self) -> None:
        """Give memory that is not in use back to the device."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def flag(self) -> tuple[np.ndarray, int]:
        """Return a number that kernels can write and the host can read without waiting, and its address.

        It is never reused: a kernel may still write to it after its owner is deleted.
        """
        with self._flag_lock:
            if not self._flags:
                memory = self._cupy.cuda.alloc_pinned_memory(8 * _PAGE)
                self._pages.append(memory)
                cells = np.frombuffer(memory, np.int64, _PAGE)
                cells[...] = 0
                self._flags = [(cells[k:k + 1], memory.ptr + 8 * k) for k in range(_PAGE)]
            return self._flags.pop()

    # -- launches -------------------------------------------------------------------------------------------

    def fork(self, calls: Sequence[Call]) -> None:
        """Run independent calls: in a capture each on a stream of its own, else one by one."""
        main = getattr(self._own, "capturing", None)
        if main is None:
            for call in calls:
                call()
            return
        self._forked.record(main)
        sides = list(zip(calls[1:], self._sides, self._joined, strict=False))
        for call, stream, joined in sides:
            stream.wait_event(self._forked)
            self._own.capturing = stream
            call()
            joined.record(stream)
        self._own.capturing = main
        calls[0]()
        for _, _, joined in sides:
            main.wait_event(joined)

    def fastest(self, calls: Sequence[Call], repeats: int) -> int:
        """Return the number of the fastest call on the device: of the first one, unless another is clearly faster.

        Graphs of 1 to 20 repetitions are timed, since the host takes longer to launch a small call than it runs.
        """
        times: dict[int, float] = {}
        graphs = []
        for k, call in enumerate(calls):
            def repeated(call: Call = call) -> None:
                for _ in range(min(max(repeats, 1), 20)):
                    call()

            try:
                call()  # loads kernels, which a capture may refuse
                graphs.append((k, self.capture((), repeated)))
            except MinigradError:
                continue  # the library proposes algorithms, and may refuse one when it is to run
        begin, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        for _ in range(3):
            for k, graph in graphs:
                begin.record()
                graph.launch()
                end.record()
                end.synchronize()
                times[k] = min(times.get(k, math.inf), self._cupy.cuda.get_elapsed_time(begin, end))
        best = min(times, key=times.__getitem__, default=0)
        return best if times.get(best, 0) < _FASTER * times.get(0, math.inf) else 0

    @abstractmethod
    def clear(self, address: int, nbytes: int) -> None:
        """Write zeros."""

    @abstractmethod
    def function(self, text: str, name: str) -> object:
        """Return a kernel of a source."""

    @abstractmethod
    def launch(self, function: object, blocks: int, threads: int, params: Packed) -> None:
        """Launch a kernel on packed arguments."""

    @abstractmethod
    def capture(self, first: Sequence[Launched], launches: Call) -> CapturedGraph:
        """Record the `first` launches and those of `launches`, which must not wait for the device, as a graph.

        Each launch of the graph reads the arguments of the `first` ones anew.
        """
