"""Objects that never change, records of fields, and properties that keep their value."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self, dataclass_transform

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


class Frozen:
    """An object whose attributes cannot be assigned."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen")


@dataclass_transform(eq_default=False)
class Record:
    """An object with the fields that its class annotates; attributes of the class are their defaults.

    A dataclass compiles its methods when it is imported, which takes 15 to 50 times as long as such a class.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _needed: ClassVar[frozenset[str]]

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *vars(cls).get("__annotations__", ()))
        cls._needed = frozenset(name for name in cls._fields if not hasattr(cls, name))

    def __init__(self, *values: object, **named: object):
        given = vars(self)
        given.update(zip(self._fields, values), **named)  # noqa: B905  # the next line compares the lengths
        if (named or len(values) != len(self._fields)) and (
                len(given) != len(values) + len(named) or not self._needed <= given.keys() <= {*self._fields}):
            raise TypeError(f"{type(self).__name__} takes the fields {', '.join(self._fields)}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Begin with these fields."""
