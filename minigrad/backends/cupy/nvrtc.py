"""Compilation of CUDA source to machine code, which needs no GPU and is cached on disk."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import asdict, dataclass

from ...errors import MinigradError
from .. import code_cache
from .libraries import find

MISSING = "NVRTC, which compiles the kernels, is not installed: pip install nvidia-cuda-nvrtc"
_REPORT = re.compile(r"Function properties for (\w+)\n\D*(\d+) bytes stack frame, (\d+) bytes spill stores, "
                     r"(\d+) bytes spill loads\nptxas info\s*: Used (\d+) registers")


@dataclass(frozen=True)
class Usage:
    """The registers and the memory of a thread of a kernel, in bytes."""

    registers: int
    stack: int
    spilled: int


@dataclass(frozen=True)
class Binary:
    """Machine code.

    Attributes
    ----------
    cubin : bytes
    usage : dict of str to Usage
        Per kernel.
    """

    cubin: bytes
    usage: dict[str, Usage]


def version() -> tuple[int, int] | None:
    """Return NVRTC's version, or None where it is not installed."""
    library = find("nvrtc")
    if library is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def options(arch: str) -> list[str]:
    """Return NVRTC's options: denormals are kept and division is exact, as on the processor; fma is allowed."""
    return [f"--gpu-architecture={arch}", "--std=c++17", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
            "--disable-warnings", "--ptxas-options=-v"]


@functools.lru_cache(maxsize=4096)
def compile(text: str, arch: str) -> Binary:
    """Return a source's code for one architecture, such as ``"sm_90"``: from disk, or compiled now.

    Raises
    ------
    MinigradError
        If NVRTC is not installed, or refuses the text; then with its log.
    """
    library = find("nvrtc")
    if library is None:
        raise MinigradError(MISSING)
    folder, key = code_cache.trusted(), code_cache.digest("NVRTC", repr(version()), *options(arch), text)
    if cached := code_cache.find(folder, key):
        usage, cubin = cached
        return Binary(cubin, {name: Usage(**u) for name, u in usage.items()})
    binary = _compiled(library, text, arch)
    code_cache.keep(folder, key, {name: asdict(u) for name, u in binary.usage.items()}, binary.cubin)
    return binary


def _compiled(library: ctypes.CDLL, text: str, arch: str) -> Binary:
    program, flags = ctypes.c_void_p(), [o.encode() for o in options(arch)]
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"minigrad.cu", 0, None, None))
    try:
        status = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = _text(library, program, "ProgramLog")
        if status:
            raise MinigradError(f"NVRTC does not compile this kernel for {arch}:\n{log.decode()}")
        return Binary(_text(library, program, "CUBIN"), {
            name: Usage(int(registers), int(stack), int(stores) + int(loads))
            for name, stack, stores, loads, registers in _REPORT.findall(log.decode())})
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, output: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{output}Size")(program, ctypes.byref(size)))
    room = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{output}")(program, room))
    return room.raw if output == "CUBIN" else room.value


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise MinigradError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")
