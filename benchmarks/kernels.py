"""Machine code of GPU kernels, without a GPU: registers, spills, and instructions per element.

``python -m benchmarks.kernels [sm_90]`` compiles the kernels of some programs and disassembles them; it needs
``nvidia-cuda-nvrtc`` and ``nvidia-cuda-nvdisasm``. The loop of a kernel is the innermost one that loads most bytes, and
its instructions are all that stand between its ends, whether executed or not.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.backends.cupy import nvrtc
from minigrad.backends.cupy.prelude import COMMON
from minigrad.backends.cupy.program import Program
from minigrad.passes import run

_REPORT = re.compile(r"Function properties for (\w+)\n\D*\d+ bytes stack frame, (\d+) bytes spill stores, "
                     r"(\d+) bytes spill loads\nptxas info\s*: Used (\d+) registers")
_KERNEL = re.compile(r"^\.text\.(\w+):$", re.MULTILINE)
_LINE = re.compile(r"^(?:(\.L_x_\d+):|\s+/\*([0-9a-f]+)\*/\s+(.*?);.*)$", re.MULTILINE)
_JUMP = re.compile(r"\bBRA(?:\.\w+)* .*?`\((\.L_x_\d+)\)")
# Loads of float32 operands: partial results are strong, pointers and indices have 64 bits.
_LOAD = re.compile(r"\bLDG?\.E(?:\.(?!STRONG|64)\w+)*(?= )")


class Nowhere:
    """No device: programs are planned, and never run."""

    xp = np

    def flag(self) -> tuple[None, int]:
        return None, 0


@dataclass(frozen=True)
class Kernel:
    """The resources of a kernel's machine code.

    Attributes
    ----------
    instructions, loop : int
        Of all of it, and of its loop.
    loaded : int
        The bytes that one thread loads in a round of the loop.
    """

    name: str
    registers: int
    spilled: int
    instructions: int
    loop: int
    loaded: int


def usage(log: str) -> dict[str, tuple[int, int]]:
    """Return the registers of each kernel, and the bytes that a thread spills, from the compiler's log."""
    return {name: (int(registers), int(stores) + int(loads))
            for name, stores, loads, registers in _REPORT.findall(log)}


def disassembler() -> str:
    """Return where nvdisasm is, on the path or in its wheel."""
    spec = importlib.util.find_spec("nvidia")
    inside = [Path(p, "cu13", "bin", "nvdisasm") for p in (spec.submodule_search_locations or () if spec else ())]
    found = next((str(p) for p in inside if p.exists()), shutil.which("nvdisasm"))
    if found is None:
        raise SystemExit("nvdisasm is neither on the path nor installed: python -m pip install nvidia-cuda-nvdisasm")
    return found


def bytes_of(load: str) -> int:
    """Return how many bytes a load instruction brings."""
    found = re.search(r"\.(U8|S8|U16|S16|128)\b", load)
    return {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "128": 16}[found[1]] if found else 4


def kernels(text: str, arch: str) -> Iterator[Kernel]:
    """Compile a source and yield the resources of each kernel."""
    binary = nvrtc.compile(text, arch)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.cubin)
        file.flush()
        done = subprocess.run([disassembler(), "-c", file.name], capture_output=True, text=True, check=True)
    parts, resources = _KERNEL.split(done.stdout), usage(binary.log)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        labels: dict[str, int] = {}
        code: list[str] = []
        for label, _, line in _LINE.findall(body):
            if label:
                labels[label] = len(code)
            else:
                code.append(line)
        loops = [(labels[m[1]], at + 1) for at, line in enumerate(code) if (m := _JUMP.search(line))
                 and labels.get(m[1], len(code)) < at]
        inner = [(a, b) for a, b in loops if not any(a <= c and d < b for c, d in loops)]
        sizes = [(sum(bytes_of(m[0]) for line in code[a:b] if (m := _LOAD.search(line))), b - a) for a, b in inner]
        loaded, loop = max(sizes, default=(0, 0))
        yield Kernel(name, *resources[name], len(code), loop, loaded)


def _loss(p: Any, x: Any, y: Any) -> Any:
    return np.log(1 + np.exp(-y * (p["c"] * np.tanh(p["a"] * x + p["b"]) + p["d"])))


def cases() -> dict[str, tuple[int, Callable[..., Any], tuple[Any, ...]]]:
    """Return the programs by name: the bytes that an element of the loop takes, the function, and arguments."""
    def f4(*shape: int) -> np.ndarray:
        return np.ones(shape, "f4")

    ids = np.arange(1000) % 10
    parameters = dict.fromkeys("abcd", np.float32(1))
    return {
        "elementwise loss, gradient": (8, mg.value_and_grad(mg.mean_loss(_loss, (None, 0, 0))),
                                       (parameters, f4(1000), f4(1000))),
        "x * 2 + y": (8, lambda x, y: x * 2 + y, (f4(10**6), f4(10**6))),
        "sum of all": (4, lambda x: x.sum(), (f4(1000, 10),)),
        "column sums": (4, lambda x: x.sum(0), (f4(5000, 1000),)),
        "sums of few long rows": (4, lambda x: x.sum(1), (f4(8, 100000),)),
        "softmax of rows": (4, mg.vmap(lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()), (f4(500, 100),)),
        "cumulative sum": (4, lambda x: np.cumsum(x), (f4(100000),)),
        "segment sum": (4, lambda x, i: mg.segment_sum(x, i, 10), (f4(1000), ids)),
        "segment sum, 64 wide": (4, lambda x, i: mg.segment_sum(x, i, 10), (f4(1000, 64), ids)),
        "transposed operand": (4, lambda x: x.T + 1, (f4(500, 300),)),
    }


def main(arch: str = "sm_90") -> None:
    """Print a table."""
    print(f"NVRTC {nvrtc.version()}, {arch}")
    print(f"{'':28}{'kernel':>8}{'registers':>10}{'spilled':>8}{'code':>6}{'loop':>6}{'bytes':>6}{'per element':>12}")
    texts = {"common kernels": (0, COMMON)}
    for title, (size, f, args) in cases().items():
        graph, _ = run(mg.trace(f)(*args))
        texts[title] = size, Program(graph, device=Nowhere()).source
    for title, (size, text) in texts.items():
        for k in kernels("typedef int I;\n" + text, arch):
            each = f"{k.loop * size / k.loaded:12.1f}" if size and k.loaded else f"{'-':>12}"
            print(f"{title:28}{k.name:>8}{k.registers:10}{k.spilled:8}{k.instructions:6}{k.loop:6}{k.loaded:6}{each}")
            title = ""


if __name__ == "__main__":
    main(*sys.argv[1:])
