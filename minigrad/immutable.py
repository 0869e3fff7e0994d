"""Objects that are their own copies, and properties that keep their value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from functools import cached_property as cached_property
else:
    class cached_property(functools.cached_property):
        """A property without the lock of Python 3.11, which all objects share and a forked child may inherit held."""

        def __get__(self, instance, owner=None):
            return self if instance is None else vars(instance).setdefault(self.attrname, self.func(instance))


class Immutable:
    """An object with identity that never changes: a copy of it, deep ones included, is the object itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
