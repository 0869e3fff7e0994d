"""Object code on disk, so that a program that was compiled once starts at once the next time.

The key of an entry is the digest of all its inputs: the IR's text, or a group's signature and the sources that
generate the text; the CPU and its features, the version of LLVM and its options. So a new minigrad never runs code that
it would generate in another way.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ....immutable import Record
from ... import code_cache
from .jit import Target, compile_all, compile_then, host, quick, toolchain

# The sources outside this package on which generated code depends.
_BENEATH = ("axes.py", "blas.py", "combiners.py", "symbolic.py", "graph.py", "immutable.py", "ops/accumulators.py",
            "ops/broadcast.py", "ops/control.py", "ops/custom.py", "ops/cuts.py", "ops/einsum.py", "ops/index.py",
            "ops/packed_scan.py", "ops/packed_steps.py", "ops/random.py", "ops/reduce.py", "ops/scatter.py",
            "ops/shape.py", "ops/sort.py", "ops/strict_index.py", "ops/subgraph.py", "passes/fuse.py",
            "passes/schedule.py", "primitive.py", "views.py")


class CodeRequest(NamedTuple):
    """A request for the object code of one module.

    Attributes
    ----------
    key : str
        Identifies the code for any one target: the module's text, or the name and the sources that generate it.
    make : callable
        Returns the module's text, and a JSON-compatible note that is stored with its code.
    later : callable, optional
        Takes the module if it is compiled now: the code is quick code, which the cache does not keep.
    """

    key: str
    make: Callable[[], tuple[str, object]]
    later: "Callable[[QuickModule], None] | None" = None


class QuickModule(Record):
    """A module that has quick code: its key in the cache, its note, and its text."""

    key: str
    note: Any
    text: str

    def compile(self) -> bytes:
        """Return the optimized code, once it is in the cache."""
        return compile_then(self.text, partial(code_cache.keep, code_cache.trusted(), self.key, self.note))


def generated(name: str, make: Callable[[], tuple[str, object]]) -> CodeRequest:
    """Return the request for a module that this package's sources generate, named `name`."""
    return CodeRequest(f"{name}\0{sources()}", make)


def object_code(request: CodeRequest) -> bytes:
    """Return the object code of one module."""
    ((_, code),) = object_codes([request])
    return code


def object_codes(requests: Sequence[CodeRequest], target: Target | None = None,
                 meanwhile: Callable[[], object] | None = None) -> list[tuple[object, bytes]]:
    """Return the notes and object codes of modules: from disk, or generated and compiled.

    `meanwhile` is called once, while other threads compile if there are any.
    """
    target, where = target or host(), code_cache.trusted()
    keys = [_key(request.key, target) for request in requests]
    entries = {key: entry for key in keys if (entry := code_cache.find(where, key)) is not None}
    missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in entries}
    notes = []

    def texts() -> Iterator[str]:
        for key, request in missing.items():
            text, note = request.make()
            notes.append(note)
            if request.later is not None:
                request.later(QuickModule(key, note, text))
                text = quick(text)
            yield text
        if meanwhile is not None:
            meanwhile()

    codes = compile_all(texts(), target)
    for (key, request), note, code in zip(missing.items(), notes, codes, strict=True):
        entries[key] = note, code
        if request.later is None:
            code_cache.keep(where, key, note, code)
    return [entries[key] for key in keys]


@functools.cache
def sources() -> str:
    """Return a digest of the files on which generated code depends, or of the archive that contains the package."""
    if (archive := getattr(__spec__.loader, "archive", None)) is not None:
        return code_cache.digest(Path(archive).read_bytes())
    package = Path(__file__).parents[1]
    files = [*sorted(package.rglob("*.py")), *(package.parents[1] / name for name in _BENEATH)]
    return code_cache.digest(*(path.read_bytes() for path in files))


def _key(text: str, target: Target) -> str:
    return code_cache.digest(toolchain(), repr(target), text)
