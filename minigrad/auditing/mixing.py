"""Examples that mix: the step on batches with other examples in place of some.

A step that adds up a function of each example alone has no interactions: the change by two replaced examples is the sum
of the changes by each. The norm of ``G(jk) − G(j) − G(k) + G`` therefore tells which pairs mix, for any loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from ..graph import PyTree
from .examples import Examples, array_of
from .least_squares import components

_MOST_NOISE = 2.0**-10  # of the gradient: interactions below are not looked at
_PERSISTENT = 0.7  # the cosine above which two differences have one direction
_READ = 1e-6  # the relative change of a gradient by an argument that the loss reads
TRIED = 12  # examples of the matrix


@dataclass(frozen=True, eq=False)
class Mixing:
    """The interactions of examples in a step, and the dependence of its gradient on order, size and padding.

    Attributes
    ----------
    tried : array (T,)
        The examples replaced.
    interactions : array (T, T)
        The norm of each pair's interaction, relative to the larger change by one of them.
    groups : list of arrays
        The sets of examples that mix.
    order : float
        The relative change of the gradient when the examples come in reverse.
    alone : float or None
        The smallest cosine between the gradient of a batch of one example and that of the example; None if the step
        refuses such a batch, or rows have a weight each.
    split : float or None
        The relative part of the gradient outside the combinations of those of the two halves of the batch; None if the
        step refuses a half.
    padding : float or None
        The relative change of the gradient with other numbers in the padding; None without padding.
    cosine : float
        Between the step's gradient and the nearest combination of the examples' gradients.
    """

    tried: np.ndarray
    interactions: np.ndarray
    groups: list[np.ndarray]
    order: float
    alone: float | None
    split: float | None
    padding: float | None
    cosine: float

    @property
    def mixes(self) -> bool:
        """Whether any two examples interact."""
        return bool(self.groups)


class _Replacements:
    """The changes of a step's gradient by other examples in place of one or two."""

    def __init__(self, call: Callable[[tuple[PyTree, ...]], np.ndarray], examples: Examples, gradient: np.ndarray,
                 donors: Mapping[int, int], advance: Callable[[str], None]):
        self._call, self._examples, self._gradient = call, examples, gradient
        self._donors, self._advance = donors, advance
        self.single = {j: self._change(j) for j in donors}

    def interaction(self, j: int, k: int) -> np.ndarray:
        """Return the change by two replaced examples, less the changes by each."""
        out: np.ndarray = self._change(j, k) - self.single[j] - self.single[k]
        return out

    def _change(self, *others: int) -> np.ndarray:
        self._advance(f"example{'s' * (len(others) > 1)} {' and '.join(map(str, others))} replaced")
        rows = np.arange(self._examples.size)
        for j in others:
            rows[j] = self._donors[j]
        change: np.ndarray = self._call(self._examples.take(rows)) - self._gradient
        return change


def persists(here: np.ndarray, nearby: np.ndarray) -> bool:
    """Return whether a difference has one direction at nearby parameters too; round-off has another."""
    return bool(here @ nearby > _PERSISTENT * np.linalg.norm(here) * np.linalg.norm(nearby))


def probe(call: Callable[[tuple[PyTree, ...]], np.ndarray], examples: Examples, gradient: np.ndarray,
          of_one: Callable[[tuple[PyTree, ...]], np.ndarray] | None, lengths: Mapping[str, np.ndarray], cosine: float,
          roundoff: float, advance: Callable[[str], None],
          again: Callable[[tuple[PyTree, ...]], np.ndarray] | None = None) -> Mixing:
    """Return the interactions of up to `TRIED` examples in a step.

    Parameters
    ----------
    call : callable
        The step: from the arguments of a batch to its gradient (P,).
    examples : Examples
    gradient : array (P,)
        Of the whole batch.
    of_one : callable
        The gradient of one example, from its arguments; None where rows have a weight each.
    lengths : mapping of str to array (B,)
    cosine : float
    roundoff : float
    advance : callable
    again : callable, optional
        The step at nearby parameters, where round-off may be as large as an interaction.
    """
    n = examples.size
    tried = _tried(n, lengths)
    donors = {j: _donor(j, n, lengths) for j in tried.tolist()}
    scale = float(np.linalg.norm(gradient)) or 1.0

    here = _Replacements(call, examples, gradient, donors, advance)
    nearby = None if again is None else _Replacements(again, examples, again(examples.args), donors, advance)
    size = len(tried)
    interactions = np.zeros((size, size))
    for a in range(size):
        for b in range(a):
            j, k = int(tried[a]), int(tried[b])
            together = here.interaction(j, k)
            gap = float(np.linalg.norm(together))
            change = max(float(np.linalg.norm(here.single[j])), float(np.linalg.norm(here.single[k])))
            noise = min(64 * roundoff, _MOST_NOISE) * scale
            if min(gap, change) > noise and (nearby is None or persists(together, nearby.interaction(j, k))):
                interactions[a, b] = interactions[b, a] = gap / change
    limit = max(1e-3 * interactions.max(initial=0.0), min(256 * roundoff, _MOST_NOISE))
    links = {int(tried[a]): {int(tried[b]) for b in np.flatnonzero(interactions[a] > limit)} for a in range(size)}
    groups = [g for g in components(links) if len(g) > 1]
    backwards = np.arange(n - 1, -1, -1)
    order = float(np.linalg.norm(call(examples.take(backwards)) - gradient)) / scale
    return Mixing(tried, interactions, groups, order, _alone(call, examples, of_one, tried),
                  _split(call, examples, gradient, scale),
                  _padding(call, examples, gradient, of_one, lengths, scale), cosine)


def _tried(n: int, lengths: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the examples to replace: all of a few, or runs of neighbours from the whole batch.

    An example of other lengths changes a divisor that counts rows, for all examples: those without another one of
    their lengths are left out.
    """
    _, kind, count = np.unique(np.stack([np.zeros(n), *lengths.values()]), axis=1, return_inverse=True,
                               return_counts=True)
    alike = np.flatnonzero(count[kind.ravel()] > 1)
    some = alike if len(alike) > 1 else np.arange(n)
    if len(some) <= TRIED:
        return some
    starts = np.linspace(0, len(some) - 3, TRIED // 3).astype(int)
    return some[np.unique((starts[:, None] + np.arange(3)).ravel())]


def _donor(j: int, n: int, lengths: Mapping[str, np.ndarray]) -> int:
    """Return another example, of the same lengths if there is one."""
    others = [(j + d) % n for d in range(n // 2, n // 2 + n) if (j + d) % n != j]
    alike = [k for k in others if all(m[k] == m[j] for m in lengths.values())]
    return (alike or others or [j])[0]


def _alone(call: Callable[[tuple[PyTree, ...]], np.ndarray], examples: Examples,
           of_one: Callable[[tuple[PyTree, ...]], np.ndarray] | None, tried: np.ndarray) -> float | None:
    if of_one is None:
        return None
    cosines = []
    for k in tried[:4].tolist():
        got = _of_other_size(call, examples.take([k]))
        if got is None:
            return None
        own = of_one(examples.one(k))
        size = float(np.linalg.norm(got) * np.linalg.norm(own))
        if size:
            cosines.append(float(got @ own) / size)
    return min(cosines, default=None)


def _of_other_size(call: Callable[[tuple[PyTree, ...]], np.ndarray], args: tuple[PyTree, ...]) -> np.ndarray | None:
    """Return the step's gradient of a batch of another size; None if the step, which is the user's, refuses it."""
    try:
        return call(args)
    except Exception:
        return None


def _split(call: Callable[[tuple[PyTree, ...]], np.ndarray], examples: Examples, gradient: np.ndarray,
           scale: float) -> float | None:
    middle = examples.size // 2
    if not middle:
        return None
    first, second = (_of_other_size(call, examples.take(rows)) for rows in np.split(np.arange(examples.size), [middle]))
    if first is None or second is None:
        return None
    halves = np.stack([first, second], axis=1)
    factors, *_ = np.linalg.lstsq(halves, gradient, rcond=None)
    return float(np.linalg.norm(halves @ factors - gradient)) / scale


def _padding(call: Callable[[tuple[PyTree, ...]], np.ndarray], examples: Examples, gradient: np.ndarray,
             of_one: Callable[[tuple[PyTree, ...]], np.ndarray] | None, lengths: Mapping[str, np.ndarray], scale: float
             ) -> float | None:
    """Return the change by other numbers in the padding of arguments whose padding the loss does not read."""
    if not examples.dense or not lengths:
        return None
    rng = default_rng(0)
    args = list(examples.args)
    for position, (arg, axis) in enumerate(zip(examples.args, examples.axes, strict=True)):
        dtype = str(getattr(arg, "dtype", ""))
        padded = next((m for m in lengths.values() if axis == 0 and ("float" in dtype or "int" in dtype)
                       and np.ndim(arg) > 1 and np.shape(arg)[1] >= m.max() and np.shape(arg)[1] > m.min()), None)
        if padded is None:
            continue
        values = array_of(arg).copy()
        beyond = np.arange(values.shape[1]) >= padded[:, None]
        within = values[~beyond].ravel()
        values[beyond] = rng.normal(size=values[beyond].shape) if "float" in dtype else rng.choice(
            within, values[beyond].shape)
        other = arg.new_tensor(values) if hasattr(arg, "new_tensor") else values.astype(dtype)
        if of_one is not None:
            k = int(np.argmin(padded))
            one = examples.one(k)
            before, after = of_one(one), of_one((*one[:position], other[k], *one[position + 1:]))
            if np.linalg.norm(after - before) > _READ * np.linalg.norm(before):
                continue
        args[position] = other
    if all(a is b for a, b in zip(args, examples.args, strict=True)):
        return None
    return float(np.linalg.norm(call(tuple(args)) - gradient)) / scale
