"""Budgets of memory: their text, a budget as a size that a call determines, and the most examples that fit into one."""

from __future__ import annotations

import re
from collections.abc import Callable

from .errors import BatchError, at_user_line
from .symbolic import Symbol

_UNITS = {"B": 1, **{f"{letter}{binary}B": (1024 if binary else 1000) ** power
                     for power, letter in enumerate("KMGT", 1) for binary in ("", "i")}}
_TEXT = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]+)\s*"


class Budget(Symbol):
    """The most bytes that a call may need, arguments aside.

    Its value among the sizes of a call is the number of bytes that passes over examples may take of it.
    """

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int):
        super().__init__(bytes_text(nbytes))
        self.nbytes = nbytes

    def __reduce__(self) -> tuple[type[Budget], tuple[int]]:  # type: ignore[override]
        return Budget, (self.nbytes,)


def bytes_of(memory: int | str, caller: str) -> int:
    """Return the bytes of a budget, such as ``"500 MB"``.

    Parameters
    ----------
    memory : int or str
        Bytes, or a number with a unit: B, KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024.
    caller : str
        The call with this argument, for errors.

    Raises
    ------
    BatchError
        If it is not such a number, or not positive.

    Examples
    --------
    >>> from minigrad.budgets import bytes_of
    >>> bytes_of("1.5 GB", "microbatch(f)"), bytes_of("64 MiB", "microbatch(f)")
    (1500000000, 67108864)
    """
    nbytes: int | None = None
    if isinstance(memory, str) and (match := re.fullmatch(_TEXT, memory)):
        unit = next((n for name, n in _UNITS.items() if name.lower() == match[2].lower()), None)
        nbytes = None if unit is None else int(float(match[1]) * unit)
    elif isinstance(memory, int) and not isinstance(memory, bool):
        nbytes = memory
    if nbytes is None or nbytes < 1:
        raise BatchError(at_user_line(f"{caller}: memory must be a positive number of bytes, as an int or as text such "
                                      f"as '500 MB' or '2 GiB', got {memory!r}"))
    return nbytes


def bytes_text(nbytes: int) -> str:
    """Return a number of bytes for readers.

    Examples
    --------
    >>> from minigrad.budgets import bytes_text
    >>> bytes_text(500_000_000), bytes_text(1_234)
    ('500 MB', '1.23 KB')
    """
    name, unit = next((name, n) for name, n in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 1000), ("B", 1))
                      if nbytes >= n or n == 1)
    return f"{nbytes / unit:.3g} {name}" if nbytes < 1000 * unit and nbytes / unit < 999.5 else f"{nbytes:,} B"


def longest(cost: Callable[[int], int], limit: int, most: int, guess: int = 1, slack: float = 0.0) -> int:
    """Return the largest number of examples, at most `most`, whose cost is at most `limit`; 0 if one exceeds it.

    Parameters
    ----------
    cost : callable
        ``cost(n)`` does not decrease with n.
    limit, most : int
    guess : int
        The number that is tried first.
    slack : float
        The part of the limit that may stay unused: the search ends at the first number whose cost is within it.

    Examples
    --------
    >>> from minigrad.budgets import longest
    >>> longest(lambda n: 100 + 8 * n, 500, 1000), longest(lambda n: 100 + 8 * n, 500, 20)
    (50, 20)
    """
    low, low_cost, high, high_cost = 0, 0, most + 1, 0
    k, halve = max(1, min(guess, most)), False
    while low + 1 < high:
        if (own := cost(k)) <= limit:
            low, low_cost = k, own
            if slack and own >= limit * (1 - slack):
                break
        else:
            high, high_cost = k, own
        if high > most:  # nothing has exceeded the limit yet: as if costs were in proportion
            k = min(max(2 * k if 2 * own <= limit else k + 1, k * limit // max(own, 1)), most)
        else:  # between the two by interpolation and by halves, in turn
            between = (limit - low_cost) * (high - low) // max(high_cost - low_cost, 1)
            k = min(max(low + ((high - low) // 2 if halve else between), low + 1), high - 1)
            halve = not halve
    return low
