"""Objects that are their own copies."""

from __future__ import annotations

from typing import Self


class Immutable:
    """An object with identity that never changes: a copy of it, deep ones included, is the object itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
