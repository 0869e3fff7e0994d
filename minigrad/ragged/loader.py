"""`DataLoader`: which examples make up a batch, in which order, and made ahead of time in a thread.

Which examples go together is decided before an epoch begins, from the examples' sizes alone: `order` and `cut` are
functions of numbers. A batch is then one gather from the packed dataset.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import BatchError, at_user_line
from ..locks import Lock
from ..tracebacks import boundary, for_user
from .dataset import as_dataset, sizes_of

Item = TypeVar("Item")


class DataLoader:
    """Batches of a dataset, epoch by epoch.

    Parameters
    ----------
    dataset : Batch, sequence of examples, pytree of arrays, data frame, or dataset
        A batch of all examples (`minigrad.batch`), a list of examples, which is packed once, here; arrays whose axis 0
        counts the examples; a data frame, whose batches are frames of rows (``iloc``); a dataset on disk
        (`minigrad.open_dataset`); or an object with a length that answers an array of indices with a batch.
    batch_size : int, optional
        At most that many examples make a batch.
    max_rows : mapping of axis to int, optional
        At most that many rows of the ragged axes make a batch: ``{node: 4096, edge: 16384}``. An example is never
        split; one that is larger on its own is an error.
    max_bytes : int, optional
        At most that much memory is used for a batch, as `measure` tells it.
    measure : callable, optional
        ``measure(batch)`` returns bytes, and no less for a batch that has more examples:
        ``lambda batch: step.workspace_bytes(params, batch)`` is what a compiled `step` would use.
    shuffle : bool
        Whether each epoch has another order.
    seed : int, optional
        What all orders follow from; without it each loader has its own.
    drop_last : bool
        Whether a last batch that is not full is left out.
    bucket : int, optional
        Put examples of similar size together, out of that many that follow each other in the (shuffled) order. Then
        batches differ in size, and not the examples in a batch.
    prefetch : int
        How many batches a thread makes ahead of the one in use; with 0 there is no thread.
    progress : bool or str
        Whether to show a progress bar, or its text.

    Attributes
    ----------
    epoch : int
        The number of the next epoch, from 0. Set it in order to go on where another run ended.

    Raises
    ------
    BatchError
        If nothing says how large a batch is, a size is not positive, an axis is not the dataset's, or one example alone
        exceeds a limit.
    """

    @boundary
    def __init__(self, dataset: Any, batch_size: int | None = None, *, max_rows: Mapping[Any, int] | None = None,
                 max_bytes: int | None = None, measure: Callable[[Any], int] | None = None, shuffle: bool = False,
                 seed: int | None = None, drop_last: bool = False, bucket: int | None = None, prefetch: int = 0,
                 progress: bool | str = False):
        _check_positive(batch_size=batch_size, max_bytes=max_bytes, bucket=bucket,
                        **{f"max_rows of {axis}": rows for axis, rows in (max_rows or {}).items()})
        if batch_size is None and not max_rows and max_bytes is None:
            raise BatchError(at_user_line("DataLoader: how large is a batch? Give batch_size, max_rows or max_bytes"))
        if (max_bytes is None) != (measure is None):
            raise BatchError(at_user_line("DataLoader: max_bytes and measure go together: measure(batch) returns the "
                                          "bytes that max_bytes limits, such as step.workspace_bytes(params, batch)"))
        if prefetch < 0:
            raise BatchError(at_user_line(f"DataLoader: prefetch={prefetch}, the number of batches made ahead, is "
                                          "negative; 0 makes none ahead"))
        self.dataset = as_dataset(dataset)
        self.batch_size, self.max_rows, self.drop_last = batch_size, dict(max_rows or {}), drop_last
        self.max_bytes, self.measure = max_bytes, measure
        self.shuffle, self.bucket, self.prefetch, self.progress = shuffle, bucket, prefetch, progress
        self.seed = np.random.SeedSequence().entropy if seed is None else seed
        self.epoch = 0
        self._lock = Lock()
        self._planned: tuple[int, list[np.ndarray]] | None = None
        sizes = sizes_of(self.dataset) if max_rows or bucket else {}
        self._limits = [(_size(sizes, axis), rows) for axis, rows in self.max_rows.items()]
        for axis, (counts, rows) in zip(self.max_rows, self._limits, strict=True):
            _check_each_fits(counts, rows, axis)
        self._rows = sum(sizes.values(), np.zeros(len(self.dataset), np.int64))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def __repr__(self) -> str:
        limits = [f"batch_size={self.batch_size}"] if self.batch_size else []
        limits += [f"{axis}: {rows}" for axis, rows in self.max_rows.items()]
        limits += [f"max_bytes={self.max_bytes}"] if self.max_bytes else []
        return f"<DataLoader of {len(self.dataset)} examples, {', '.join(limits)}>"

    def __len__(self) -> int:
        """Return the number of batches of the next epoch; under a budget it depends on the order."""
        return len(self.batches(self.epoch))

    def __iter__(self) -> Iterator[Any]:
        with self._lock:
            epoch, self.epoch = self.epoch, self.epoch + 1
        indices = self.batches(epoch)
        make = functools.partial(_read, self.dataset, indices)
        batches = ahead(make, len(indices), self.prefetch) if self.prefetch else map(make, range(len(indices)))
        if self.progress:
            batches = _shown(batches, len(indices), "batches" if self.progress is True else self.progress)
        return _delivered(batches)

    @boundary
    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return which examples make up each batch of an epoch.

        Parameters
        ----------
        epoch : int

        Returns
        -------
        list of ndarray of int
            The same whenever it is asked for the same epoch.
        """
        planned = self._planned
        if planned is None or planned[0] != epoch:
            planned = self._planned = epoch, self._plan(epoch)
        return planned[1]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        examples = order(self._rows, rng, self.bucket)
        parts, full = cut(examples, self.batch_size, self._limits, None if self.measure is None else self._fits)
        if self.drop_last and not full:
            parts.pop()
        if self.bucket and rng is not None:  # or sizes would grow and shrink through the epoch
            parts = [parts[i] for i in rng.permutation(len(parts))]
        return parts

    def _fits(self, examples: np.ndarray) -> bool:
        return self.measure(self.dataset[examples]) <= self.max_bytes


def _read(dataset: Any, parts: Sequence[np.ndarray], k: int) -> Any:
    """Return batch `k` of a dataset; a `StopIteration` of its own is an error, not the end of the epoch."""
    try:
        return dataset[parts[k]]
    except StopIteration as error:
        raise BatchError(f"DataLoader: the dataset, a {type(dataset).__name__}, raised StopIteration in batch {k}, "
                         f"examples {parts[k].tolist()}. It returns a batch for any indices below its length "
                         f"{len(dataset)}") from error


def order(rows: np.ndarray, rng: np.random.Generator | None = None, bucket: int | None = None) -> np.ndarray:
    """Return the order in which examples are put into batches.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        The size of each example.
    rng : numpy.random.Generator, optional
        Shuffles; without it the order is that of the dataset.
    bucket : int, optional
        Sort by size among so many that follow each other: upwards, and downwards in every second group, so that a
        batch that reaches over a border has examples of similar size too.

    Returns
    -------
    ndarray of int, shape (n,)
        A permutation.
    """
    n = len(rows)
    examples = np.arange(n) if rng is None else rng.permutation(n)
    if bucket is None:
        return examples
    group = np.arange(n) // bucket
    size = rows[examples]
    return examples[np.lexsort((np.where(group % 2, -size, size), group))]


def cut(examples: np.ndarray, batch_size: int | None = None, limits: Sequence[tuple[np.ndarray, int]] = (),
        fits: Callable[[np.ndarray], bool] | None = None) -> tuple[list[np.ndarray], bool]:
    """Cut `examples` into batches, each as long as the limits allow.

    Parameters
    ----------
    examples : ndarray of int, shape (n,)
        In this order.
    batch_size : int, optional
    limits : sequence of (ndarray of int, int)
        The size of each example of the dataset, and how much a batch may have of it.
    fits : callable, optional
        Whether these examples may be one batch; if they may, fewer of them may too.

    Returns
    -------
    parts : list of ndarray of int
    full : bool
        Whether the last one has reached the number or the size that a batch may have.

    Raises
    ------
    BatchError
        If one example alone exceeds a limit.
    """
    n, parts, full, guess = len(examples), [], True, 1
    running = [(np.concatenate([[0], np.cumsum(counts[examples])]), limit) for counts, limit in limits]
    start = 0
    while start < n:
        stop = min(n, start + (batch_size or n))
        for total, limit in running:
            stop = min(stop, int(np.searchsorted(total, total[start] + limit, side="right")) - 1)
        if fits is not None and stop > start:
            guess = _longest(lambda k, at=start: fits(examples[at:at + k]), stop - start, guess)
            stop = start + guess
        if stop == start:
            raise BatchError(at_user_line(f"DataLoader: example {examples[start]} alone exceeds what a batch may have"))
        parts.append(examples[start:stop])
        full = stop - start == batch_size or any(total[stop] - total[start] == limit for total, limit in running)
        start = stop
    return parts, full


def _longest(fits: Callable[[int], bool], most: int, guess: int) -> int:
    """Return the largest length of at most `most` that fits, or 0; `guess` is where to begin."""
    good, bad, k = 0, most + 1, min(guess, most)
    while good + 1 < bad:
        if fits(k):
            good = k
        else:
            bad = k
        k = min(2 * good, most) if bad > most else (good + bad) // 2
    return good


def ahead(make: Callable[[int], Item], count: int, depth: int) -> Iterator[Item]:
    """Return ``make(0)``, ..., ``make(count - 1)``, made by a thread that is at most `depth` of them ahead.

    The thread starts with the first item and ends with the last one, or when the iterator is closed or dropped. What
    is raised while an item is made is raised where that item would have come. A process that is forked meanwhile has
    no such thread: there another one goes on from the next item.
    """
    k = 0
    while k < count:
        process, worker = _forks, _Worker(make, k, count, depth)
        try:
            worker.thread.start()
            while k < count and _forks == process:
                item = worker.take()
                k += 1
                yield item
        finally:
            if _forks == process:  # else its locks may be held by a thread that is not there
                worker.end()


_forks = 0  # how many forks this process is away from the one that imported this


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Worker:
    """A thread that makes items, and the queue in which they wait."""

    def __init__(self, make: Callable[[int], Item], first: int, count: int, depth: int):
        self._room = threading.Semaphore(depth)
        self._made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._ended = False
        self.thread = threading.Thread(target=self._work, args=(make, first, count), name="minigrad-loader",
                                       daemon=True)

    def _work(self, make: Callable[[int], Item], first: int, count: int) -> None:
        for k in range(first, count):
            self._room.acquire()
            if self._ended:
                return
            try:
                self._made.put((make(k), None))
            except BaseException as error:  # it is raised by the consumer
                self._made.put((None, error))
                return

    def take(self) -> Item:
        item, error = self._made.get()
        if error is not None:
            raise error
        self._room.release()
        return item

    def end(self) -> None:
        """Let the thread end, and wait for that; it may not have begun, if its start was interrupted."""
        self._ended = True
        self._room.release()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:  # that may run the collector
            self.thread.join()


def _delivered(items: Iterable[Item]) -> Iterator[Item]:
    """Filter the errors that leave an iterator which users go through."""
    try:
        yield from items
    except Exception as error:
        raise for_user(error)  # noqa: B904


def _shown(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    from rich.progress import track

    return iter(track(items, text, total))


def _size(sizes: Mapping[Any, np.ndarray], axis: Any) -> np.ndarray:
    if axis not in sizes:
        known = ", ".join(map(str, sizes)) or "none: its examples are of equal shape, give batch_size"
        raise BatchError(at_user_line(f"DataLoader: max_rows names {axis}, and the dataset's ragged axes are {known}"))
    return np.asarray(sizes[axis], np.int64)


def _check_each_fits(counts: np.ndarray, limit: int, axis: Any) -> None:
    if len(counts) and counts.max() > limit:
        worst = int(counts.argmax())
        raise BatchError(at_user_line(
            f"DataLoader: example {worst} has {counts[worst]} rows of {axis}, and max_rows allows {limit} in a batch. "
            f"Raise it, or leave out the {np.count_nonzero(counts > limit)} examples that are too large"))


def _check_positive(**numbers: int | None) -> None:
    for name, n in numbers.items():
        if n is not None and n < 1:
            raise BatchError(at_user_line(f"DataLoader: {name} is {n}, and should be at least 1"))
