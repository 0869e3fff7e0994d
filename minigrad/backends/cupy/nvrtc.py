"""Compilation of CUDA source to machine code, which needs no GPU and is cached on disk."""

from __future__ import annotations

import ctypes
import functools
from typing import NamedTuple

from ...errors import MinigradError
from .. import code_cache
from .libraries import find

MISSING = "NVRTC, which compiles the kernels, is not installed: pip install nvidia-cuda-nvrtc"


class Binary(NamedTuple):
    """Machine code, and the log of its compilation, which has the registers of each kernel."""

    cubin: bytes
    log: str


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
    folder, key = code_cache.trusted(), code_cache.digest("NVRTC with log", repr(version()), *options(arch), text)
    if cached := code_cache.find(folder, key):
        return Binary(*cached[::-1])
    binary = _compiled(library, text, arch)
    code_cache.keep(folder, key, binary.log, binary.cubin)
    return binary


def _compiled(library: ctypes.CDLL, text: str, arch: str) -> Binary:
    program, flags = ctypes.c_void_p(), [o.encode() for o in options(arch)]
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"minigrad.cu", 0, None, None))
    try:
        status = library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
        log = _text(library, program, "ProgramLog").decode()
        if status:
            raise MinigradError(f"NVRTC does not compile this kernel for {arch}:\n{log}")
        return Binary(_text(library, program, "CUBIN"), log)
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
