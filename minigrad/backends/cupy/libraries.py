"""Search for NVIDIA's libraries: in the system, in the wheels that pip installs, or in a CUDA toolkit."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

VERSIONS = (13, 12)


@functools.cache
def find(name: str) -> ctypes.CDLL | None:
    """Return a library such as ``"nvrtc"``, or None where it is not installed."""
    for path in (*_by_pathfinder(name), *_candidates(name)):
        try:
            if os.sep in path:  # NVRTC loads its builtins by name, and its wheel of 13.0 has no search path
                for needed in sorted(Path(path).parent.glob(f"lib{name}-builtins.so.*")):
                    ctypes.CDLL(str(needed))
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


def _by_pathfinder(name: str) -> Iterator[str]:
    """Yield the library that CuPy would load, by the search of CuPy."""
    try:
        import cuda.pathfinder as pathfinder
    except ImportError:
        return
    with contextlib.suppress(pathfinder.DynamicLibNotFoundError):
        if path := pathfinder.load_nvidia_dynamic_lib(name).abs_path:
            yield path


def _candidates(name: str) -> Iterator[str]:
    files = [f"lib{name}.so.{v}" for v in VERSIONS]
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    for folder in folders:
        for file in files:
            yield from sorted(map(str, folder.glob(f"*/lib/{file}")))
    for root in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if root:
            yield from (str(Path(root, "lib64", file)) for file in files)
    yield from files
