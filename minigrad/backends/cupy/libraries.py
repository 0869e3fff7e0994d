"""Finding NVIDIA's libraries: in the system, in the wheels that pip installs, or in a CUDA toolkit."""

from __future__ import annotations

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
    for path in _candidates(name):
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    return None


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
