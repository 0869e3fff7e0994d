"""A stand-in for the GPU: the same kernel text, compiled for the processor, on NumPy's memory.

Launches take the packed arguments that the driver would take, products go to a cuBLAS on NumPy's memory, and a captured
graph repeats what was recorded, once it is known that its concurrent nodes do not race.
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

from minigrad.backends.cupy.blas import Blas
from minigrad.backends.cupy.device import Device, Launched, pack
from minigrad.backends.cupy.prelude import PRELUDE

from . import cublas_on_numpy, cupy_on_numpy
from .recorded import Ranges, Recorded, Recording

COMPILER = shutil.which("g++")
_FLAGS = ("-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off", f"-I{Path(__file__).parent}")
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


def _run_compiler(source: Path, target: Path) -> None:
    assert COMPILER
    done = subprocess.run([COMPILER, *_FLAGS, str(source), "-o", str(target)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the stand-in's compiler refuses a kernel:\n{done.stderr[:4000]}")


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
    choose : callable
        Which of a number of calls is the fastest.
    """

    def __init__(self, folder: Path):
        super().__init__(cupy_on_numpy.CUPY, cupy_on_numpy.COMPAT)
        self._folder = folder
        self._pending: dict[str, str] = {}
        self._spaces: dict[str, str] = {}
        self._libraries: list[Any] = []
        self._lock = threading.RLock()
        self.lt = cublas_on_numpy.CublasLt(self)
        self.blas = Blas(cublas_on_numpy.Cublas(self), self.lt)
        self.blas.lock = self._lock  # a product runs at once here, so the two locks would be taken in either order
        self.reset()

    def reset(self) -> None:
        """Forget what was asked for and noted."""
        self.log: list[str] = []
        self.graphs: list[Recorded] = []
        self.limit = cupy_on_numpy.Pool.limit
        cupy_on_numpy.POOL.released = 0
        self.backwards = False
        self.choose: Callable[[int], int] = lambda n: n - 1
        self.lt.used.clear()

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
        header = self._folder / "kernels.h"
        if not header.exists():  # compiled once: reading it costs half of a small kernel's compilation
            header.write_text(f'#include "shim.h"\n{PRELUDE}')
            _run_compiler(header, header.with_suffix(".h.gch"))
        parts = ['#include "kernels.h"']
        for space, text in self._pending.items():
            own = text.replace(PRELUDE, "")
            parts.append("namespace {} {{\n{}\n}}".format(space, own.replace('extern "C"', "static")))
            parts += [f'extern "C" void {space}_{name}(unsigned g, unsigned b, int t, void** a) '
                      f"{{ run({space}::{name}, g, b, t, a); }}" for name in _KERNEL.findall(own)]
        source = self._folder / f"kernels{len(self._libraries)}.cpp"
        source.write_text("\n".join(parts))
        target = source.with_suffix(".so")
        _run_compiler(source, target)
        self._libraries.append(ctypes.CDLL(str(target)))
        self._pending.clear()

    def enqueue(self, stream: int, name: str, run: Callable[[], None], reads: Ranges | None = None,
                writes: Ranges | None = None) -> None:
        """Run something now, or record it where the stream is captured."""
        def logged() -> None:
            with self._lock:  # the shim has one set of fibers
                self.log.append(name)
                run()

        at = cupy_on_numpy.STREAMS.get(stream)
        if at is not None and at.capture is not None:
            at.capture.add(at, name, logged, reads, writes)
        else:
            logged()

    def launch(self, function: Function, blocks: int, threads: int, params: Any) -> None:
        assert 0 < blocks < 2**31
        assert 0 < threads <= 1024
        self._enqueue(function, blocks, threads, _frozen(params) if getattr(self._own, "capturing", None) else params)

    def _enqueue(self, function: Function, blocks: int, threads: int, params: Any) -> None:
        def run() -> None:
            address, order = function.address()
            order.value = int(self.backwards)
            address(blocks, threads, int(function.together), params)

        self.enqueue(self.stream(), function.symbol, run)

    def clear(self, address: int, nbytes: int) -> None:
        self.enqueue(self.stream(), "clear", lambda: ctypes.memset(address, 0, nbytes), (),
                     [(address, address + nbytes)])

    def capture(self, first: Sequence[Launched], rest: Callable[[], None]) -> Recorded:
        with self._lock:
            recording = Recording(self._capture_stream)
            self._own.capturing = self._capture_stream
            try:
                for function, *args in first:
                    self._enqueue(function, *args)
                rest()
            finally:
                self._own.capturing = None
                recording.close()
            graph = Recorded(recording.nodes, len(first))
            self.graphs.append(graph)
            return graph

    def fastest(self, calls: Sequence[Callable[[], None]], repeats: int) -> int:
        for call in calls:
            call()
        return self.choose(len(calls))
