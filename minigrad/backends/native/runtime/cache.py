"""Object code on disk, so that a program that was compiled once starts at once the next time.

An entry is found by what it is made of: the IR's text, or what that is written from (a group's signature) and the
sources that write it; the CPU and its features, the version of LLVM and what it is told to do. So a new minigrad never
runs what an old one has made, where it would make it in another way.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import code_cache
from .jit import Target, compile_all, host, recipe

# What code is made by, beside this package.
_BENEATH = ("axes.py", "combiners.py", "symbolic.py", "graph.py", "ops/control.py", "ops/index.py", "ops/shape.py",
            "ops/random.py", "ops/scatter.py", "ops/reduce.py", "passes/fuse.py", "passes/schedule.py",
            "primitive.py", "views.py")


def object_code(text: str, target: Target | None = None) -> bytes:
    """Return what ``compile_ir(text, target)`` returns, from disk if it is there."""
    return made([plain(text)], target)[0][1]


@dataclass(frozen=True)
class Want:
    """Code that is wanted.

    Attributes
    ----------
    what : str
        What it is made of, beside the target.
    make : callable
        Returns the module's text, and a note of what else is to be known of it, which JSON can hold.
    """

    what: str
    make: Callable[[], tuple[str, Any]]


def plain(text: str) -> Want:
    """Return the wish for a module's code."""
    return Want(text, lambda: (text, None))


def written_of(what: str, make: Callable[[], tuple[str, Any]]) -> Want:
    """Return the wish for the code of a module that this package's source writes, of `what`."""
    return Want(f"{what}\0{_sources()}", make)


def made(wants: Sequence[Want], target: Target | None = None) -> list[tuple[Any, bytes]]:
    """Return notes and object codes, each from disk if it is there; the others' texts are written and compiled."""
    target, where = target or host(), code_cache.trusted()
    keys = [_key(want.what, target) for want in wants]
    found = {key: code_cache.find(where, key) for key in keys}
    missing = {key: want for key, want in zip(keys, wants, strict=True) if found[key] is None}
    texts = [want.make() for want in missing.values()]
    codes = compile_all([text for text, _ in texts], target)
    for key, (_, note), code in zip(missing, texts, codes, strict=True):
        found[key] = note, code
        code_cache.keep(where, key, note, code)
    return [found[key] for key in keys]


@functools.cache
def _sources() -> str:
    """Return a digest of the files that say how modules are made."""
    here = Path(__file__).parents[1]
    files = [*sorted(here.rglob("*.py")), *(here.parents[1] / name for name in _BENEATH)]
    return code_cache.digest(*(path.read_text(encoding="utf-8") for path in files))


def _key(text: str, target: Target) -> str:
    return code_cache.digest(recipe(), repr(target), text)
