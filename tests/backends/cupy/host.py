"""A stand-in for the GPU: the same kernel text, compiled for the processor, on NumPy's memory.

Launches take the packed arguments that the driver would take, and a captured graph repeats what was recorded.
Sources are collected until the first launch, so that many programs cost one run of the compiler.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.backends.cupy.device import Device, Launched, pack
from minigrad.backends.cupy.prelude import PRELUDE

from . import cupy_on_numpy

COMPILER = shutil.which("g++")
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(')
# What a kernel whose threads wait for each other calls.
_TOGETHER = ("__syncthreads", "team_reduce<", "block_reduce<", "finish<", "finish_pieces<", "in_order(", "scan<")


class Function:
    """A kernel: where it is defined, and its address once that is compiled."""

    def __init__(self, host: Host, space: str, name: str, together: bool):
        self.host, self.symbol, self.together = host, f"{space}_{name}", together
        self._address: Any = None

    def address(self) -> Any:
        if self._address is None:
            self._address = self.host.resolve(self.symbol)
        return self._address


class Recorded:
    """What was launched during a capture: with the arguments of then, but for the `first` launches."""

    def __init__(self, first: list[tuple], calls: list[tuple]):
        self.first, self.calls = first, [(f, *map(_frozen, args)) for f, *args in calls]
        self.launches = 0

    def launch(self) -> None:
        self.launches += 1
        for function, *args in (*self.first, *self.calls):
            function(*args)


def _frozen(x: Any) -> Any:
    """Return packed arguments as they are now."""
    return pack([type(v).from_buffer_copy(v) for v in x.values]) if hasattr(x, "values") else x


class Host(Device):
    """The device that programs run on in tests; see `minigrad.backends.cupy.driver.Cuda`.

    Attributes
    ----------
    log : list of str
        What ran, in order.
    graphs : list of Recorded
        What was captured.
    limit : int
        The most bytes that one array may have.
    released : int
        How often memory was given back.
    backwards : bool
        Whether the last block and the last thread come first.
    """

    def __init__(self, folder: Path):
        super().__init__(cupy_on_numpy.CUPY, cupy_on_numpy.COMPAT)
        self._folder = folder
        self._pending: dict[str, str] = {}
        self._spaces: dict[str, str] = {}
        self._libraries: list[Any] = []
        self._thread = threading.local()
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget what was asked for and noted."""
        self.log: list[str] = []
        self.graphs: list[Recorded] = []
        self.limit = cupy_on_numpy.Pool.limit
        cupy_on_numpy.POOL.released = 0
        self.backwards = False

    @property
    def limit(self) -> int:
        return cupy_on_numpy.POOL.limit

    @limit.setter
    def limit(self, nbytes: int) -> None:
        cupy_on_numpy.POOL.limit = nbytes

    @property
    def released(self) -> int:
        return cupy_on_numpy.POOL.released

    # -- kernels --------------------------------------------------------------------------------------------

    def function(self, text: str, name: str) -> Function:
        with self._lock:
            return self._function(text, name)

    def _function(self, text: str, name: str) -> Function:
        if text not in self._spaces:
            self._spaces[text] = f"p{len(self._spaces)}"
            self._pending[self._spaces[text]] = text
        at = text.index(f" {name}(")
        end = text.find("\n}", at)
        return Function(self, self._spaces[text], name, any(w in text[at:end] for w in _TOGETHER))

    def resolve(self, symbol: str) -> Any:
        if self._pending:
            self._compile()
        library = next(lib for lib in self._libraries if hasattr(lib, symbol))
        return getattr(library, symbol), ctypes.c_int.in_dll(library, "shim_order")

    def _compile(self) -> None:
        parts = ['#include "shim.h"', PRELUDE]
        for space, text in self._pending.items():
            own = text.replace(PRELUDE, "")
            parts.append("namespace {} {{\n{}\n}}".format(space, own.replace('extern "C"', "static")))
            parts += [f'extern "C" void {space}_{name}(unsigned g, unsigned b, int t, void** a) '
                      f"{{ run({space}::{name}, g, b, t, a); }}" for name in _KERNEL.findall(own)]
        source = self._folder / f"kernels{len(self._libraries)}.cpp"
        source.write_text("\n".join(parts))
        target = source.with_suffix(".so")
        done = subprocess.run([COMPILER, "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off",
                               f"-I{Path(__file__).parent}", str(source), "-o", str(target)],
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the stand-in's compiler refuses a kernel:\n{done.stderr[:4000]}")
        self._libraries.append(ctypes.CDLL(str(target)))
        self._pending.clear()

    def launch(self, function: Function, blocks: int, threads: int, params: Any) -> None:
        assert 0 < blocks < 2**31
        assert 0 < threads <= 1024
        recording = self._recording()
        if recording is not None:
            recording.append((self.launch, function, blocks, threads, params))
            return
        with self._lock:  # the shim has one set of fibers
            self.log.append(function.symbol)
            address, order = function.address()
            order.value = int(self.backwards)
            address(blocks, threads, int(function.together), params)

    def clear(self, address: int, nbytes: int) -> None:
        recording = self._recording()
        if recording is not None:
            recording.append((self.clear, address, nbytes))
            return
        self.log.append("clear")
        ctypes.memset(address, 0, nbytes)

    def multiply(self, dtype: np.dtype, precision: str, sizes: tuple, x: tuple, y: tuple, out: int, room: int) -> None:
        recording = self._recording()
        if recording is not None:
            recording.append((self.multiply, dtype, precision, sizes, x, y, out, room))
            return
        self.log.append("gemm")
        batch, m, n, k = sizes
        assert min(batch, m, n) > 0, "cuBLAS refuses a leading size of 0"
        matrices = []
        for (address, turned, lead, apart), rows, columns in ((x, m, k), (y, k, n)):
            assert lead >= max(1, rows if turned else columns), "cuBLAS refuses a leading size below the row's"
            strides = (1, lead) if turned else (lead, 1)
            reach = (batch - 1) * apart + sum((d - 1) * s for d, s in zip((rows, columns), strides, strict=True)) + 1
            flat = _memory(address, max(reach, 0) if min(batch, rows, columns) else 0, dtype)
            matrices.append(np.lib.stride_tricks.as_strided(
                flat, (batch, rows, columns), [s * dtype.itemsize for s in (apart, *strides)]))
        if k:  # cuBLAS leaves the result of a sum over nothing as it was
            _memory(out, batch * m * n, dtype)[...] = np.matmul(*matrices).ravel()

    def capture(self, first: Sequence[Launched], rest: Callable[[], None]) -> Recorded:
        self._thread.recording = calls = []
        try:
            for launched in first:
                self.launch(*launched)
            rest()
        finally:
            self._thread.recording = None
        graph = Recorded(calls[:len(first)], calls[len(first):])
        self.graphs.append(graph)
        return graph

    def _recording(self) -> list[tuple] | None:
        return getattr(self._thread, "recording", None)


def _memory(address: int, n: int, dtype: np.dtype) -> np.ndarray:
    if not n:
        return np.empty(0, dtype)
    return np.frombuffer((ctypes.c_char * (n * dtype.itemsize)).from_address(address), dtype)
