"""`DataLoader`: batches of a dataset in a shuffled order, limited in size, and prefetched by a thread.

`order` and `cut` plan the batches of an epoch from the examples' sizes alone, before it begins. A batch is then one
gather from the packed dataset.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import optree

from ..budgets import bytes_of, bytes_text, longest
from ..errors import BatchError, at_user_line
from ..graph import PyTree
from ..locks import Lock, importing
from ..progress import examples_bar, title_of
from ..tracebacks import boundary, for_user
from .axes import Axis
from .dataset import Arrays, Dataset, Table, as_dataset, sizes_of

Item = TypeVar("Item")
SPARE = 8  # programs for batches of ever new sizes may keep memory for sizes larger by one part in so many


class DataLoader:
    """Batches of a dataset, epoch by epoch.

    Parameters
    ----------
    dataset : Batch, list of examples, pytree of arrays, data frame, or dataset
        A batch of all examples (`minigrad.batch`); a list of examples, which is packed once; arrays whose axis 0 counts
        the examples; a data frame, whose batches are frames of rows (``iloc``); a dataset on disk
        (`minigrad.open_dataset`); or an object with a length whose ``dataset[indices]`` is a batch.
    batch_size : int, optional
        The largest number of examples of a batch.
    max_rows : mapping of axis to int, optional
        The largest number of rows of a batch on ragged axes: ``{node: 4096, edge: 16384}``. Examples are not split.
    max_bytes : int, optional
        The largest memory of a batch, as returned by `measure`.
    measure : callable, optional
        ``measure(batch)`` returns bytes, and does not decrease with the number of examples:
        ``lambda batch: step.memory(params, batch)`` is the memory of a call of a compiled `step`.
    memory : int or str, optional
        In place of `max_bytes`: the memory of an epoch, in bytes or as ``"500 MB"``: that of all batches which exist at
        a time (the current one, the next, and those of `prefetch`), and that of `measure` where it is given. With
        `shard`, that of each rank. Examples of equal size have batches of equal length.
    shuffle : bool
        Whether to draw a new order for each epoch.
    seed : int, optional
        The seed of all orders; by default, each loader draws one.
    shard : (int, int), optional
        ``(rank, world)``: load this rank's share of each batch, one of `world` shares that are consecutive, of equal
        size up to one example, and empty where a batch has fewer examples than ranks. Together the shares are the
        batches of a loader without `shard`, so all ranks take as many steps, and limits hold for all shares together.
        Orders need an equal `seed` on all ranks.
    drop_last : bool
        Whether to omit a last batch that is not full.
    bucket : int, optional
        The number of consecutive examples, in the (shuffled) order, that are sorted by size, so that the examples of a
        batch have similar sizes.
    prefetch : int
        The number of batches that a thread computes ahead; 0 for no thread.
    progress : bool or str
        Whether to show a progress bar, with the examples a second, or its text.

    Attributes
    ----------
    epoch : int
        The number of the next epoch, from 0. Set it to continue an interrupted run.

    Raises
    ------
    BatchError
        If no limit is given, a limit is not positive, an axis is not the dataset's, or one example alone exceeds a
        limit.

    Examples
    --------
    >>> word = mg.axis("word")
    >>> data = mg.batch([np.ones(n) for n in (3, 1, 2, 4)], mg.f64[word])
    >>> for batch in mg.DataLoader(data, max_rows={word: 5}):
    ...     print(batch.lengths[word], np.sum(batch.values))
    [3 1] 4.0
    [2] 2.0
    [4] 4.0
    """

    @boundary
    def __init__(self, dataset: object, batch_size: int | None = None, *,
                 max_rows: Mapping[Axis | str, int] | None = None, max_bytes: int | None = None,
                 measure: Callable[[PyTree], int] | None = None, memory: int | str | None = None,
                 shuffle: bool = False, seed: int | None = None,
                 shard: tuple[int, int] | None = None, drop_last: bool = False, bucket: int | None = None,
                 prefetch: int = 0, progress: bool | str = False):
        _check_positive(batch_size=batch_size, max_bytes=max_bytes, bucket=bucket,
                        **{f"max_rows of {axis}": rows for axis, rows in (max_rows or {}).items()})
        if batch_size is None and not max_rows and max_bytes is None and memory is None:
            raise BatchError(at_user_line("DataLoader: give batch_size, max_rows or max_bytes, or memory"))
        if max_bytes is not None and memory is not None:
            raise BatchError(at_user_line("DataLoader: give max_bytes or memory, not both"))
        if memory is None and (max_bytes is None) != (measure is None):
            raise BatchError(at_user_line("DataLoader: max_bytes and measure go together: measure(batch) returns the "
                                          "bytes that max_bytes limits, such as step.memory(params, batch)"))
        if prefetch < 0:
            raise BatchError(at_user_line(f"DataLoader: prefetch, the number of batches computed ahead, must not be "
                                          f"negative, got {prefetch}"))
        if shard is not None:
            _check_shard(shard)
            if shuffle and seed is None:
                raise BatchError(at_user_line("DataLoader: shard and shuffle need a seed, the same on all ranks"))
        self.dataset = as_dataset(dataset)
        self.batch_size, self.max_rows, self.drop_last = batch_size, dict(max_rows or {}), drop_last
        self.max_bytes, self.measure = max_bytes, measure
        self.memory = None if memory is None else bytes_of(memory, "DataLoader")
        self._equal = isinstance(self.dataset, (Arrays, Table))  # examples of one size
        self._length: int | None = None  # of batches of such examples within `memory`
        self.shuffle, self.bucket, self.prefetch, self.progress = shuffle, bucket, prefetch, progress
        self.shard = shard
        self.seed = secrets.randbits(128) if seed is None else seed
        self.epoch = 0
        self._lock = Lock()
        self._planned: tuple[int, list[np.ndarray]] | None = None
        sizes = sizes_of(self.dataset) if max_rows or bucket else {}
        self._limits = [(_size(sizes, axis), rows) for axis, rows in self.max_rows.items()]
        for axis, (counts, rows) in zip(self.max_rows, self._limits, strict=True):
            _check_each_fits(counts, rows, axis)
        self._rows = sum(sizes.values(), np.zeros(len(self.dataset), np.int64))

    def _cost(self, examples: np.ndarray) -> int:
        """Return the bytes of a batch, as limited by `memory` or `max_bytes`."""
        if self.memory is None:
            return self._measured(self.dataset[examples])
        world = self.shard[1] if self.shard else 1
        shares = [_share(examples, rank, world) for rank in range(world)]
        if self._equal:
            shares = [max(shares, key=len)]
        # From one batch to the next, the user holds both, beside those computed ahead. For ever new sizes, a program
        # may keep memory for somewhat larger ones.
        program = 1 if self._equal else 1 + 1 / SPARE
        return max((2 + self.prefetch) * bytes_of_arrays(batch) + int(program * self._measured(batch))
                   for batch in map(self.dataset.__getitem__, filter(len, shares)))

    def _measured(self, batch: PyTree) -> int:
        return 0 if self.measure is None else self.measure(batch)

    def _cut(self, examples: np.ndarray) -> tuple[list[np.ndarray], bool]:
        """Cut the order of an epoch into batches; return whether the last one is full, too."""
        most = self.max_bytes if self.memory is None else self.memory
        if most is None:
            return cut(examples, self.batch_size, self._limits)
        if self.memory is None or not self._equal:
            return cut(examples, self.batch_size, self._limits, self._cost, most)
        if self._length is None and len(examples):
            self._length = _fitting(self._cost, most, examples[:self.batch_size])
        return cut(examples, self._length)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=Lock())

    def __repr__(self) -> str:
        limits = [f"batch_size={self.batch_size}"] if self.batch_size else []
        limits += [f"{axis}: {rows}" for axis, rows in self.max_rows.items()]
        limits += [f"max_bytes={self.max_bytes}"] if self.max_bytes else []
        limits += [f"memory={bytes_text(self.memory)}"] if self.memory else []
        limits += [f"shard={self.shard}"] if self.shard else []
        return f"<DataLoader of {len(self.dataset)} examples, {', '.join(limits)}>"

    def __len__(self) -> int:
        """Return the number of batches of the next epoch; limits of rows or bytes make it depend on the order."""
        return len(self.batches(self.epoch))

    def __iter__(self) -> Iterator[PyTree]:
        with self._lock:
            epoch, self.epoch = self.epoch, self.epoch + 1
        indices = self.batches(epoch)
        make = functools.partial(_read, self.dataset, indices)
        batches = ahead(make, len(indices), self.prefetch) if self.prefetch else map(make, range(len(indices)))
        if self.progress:
            batches = _shown(batches, [len(part) for part in indices], title_of(self.progress, "batches"))
        return _delivered(batches)

    @boundary
    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the examples of each batch of an epoch.

        Parameters
        ----------
        epoch : int

        Returns
        -------
        list of int array
            The indices of a batch's examples, or of the shard's share of them. They depend on the seed and the epoch
            alone.
        """
        planned = self._planned
        if planned is None or planned[0] != epoch:
            planned = self._planned = epoch, self._plan(epoch)
        return planned[1]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        with importing:  # NumPy's module
            rng = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        examples = order(self._rows, rng, self.bucket)
        parts, full = self._cut(examples)
        if self.drop_last and not full:
            parts.pop()
        if self.bucket and rng is not None:  # or sizes would grow and shrink through the epoch
            parts = [parts[i] for i in rng.permutation(len(parts))]
        return parts if self.shard is None else [_share(part, *self.shard) for part in parts]


def _share(examples: np.ndarray, rank: int, world: int) -> np.ndarray:
    """Return a rank's examples of a batch."""
    return examples[len(examples) * rank // world:len(examples) * (rank + 1) // world]


def _read(dataset: Dataset, parts: Sequence[np.ndarray], k: int) -> PyTree:
    """Return batch `k` of a dataset; its `StopIteration` is an error, and not the end of the epoch."""
    try:
        return dataset[parts[k]]
    except StopIteration as error:
        raise BatchError(f"DataLoader: the dataset, a {type(dataset).__name__}, raised StopIteration in batch {k}, "
                         f"examples {parts[k].tolist()}. It returns a batch for any indices below its length "
                         f"{len(dataset)}") from error


def order(rows: np.ndarray, rng: np.random.Generator | None = None, bucket: int | None = None) -> np.ndarray:
    """Return the order of the examples of an epoch.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        The size of each example.
    rng : numpy.random.Generator, optional
        The generator of a random order; by default, the order is that of the dataset.
    bucket : int, optional
        The number of consecutive examples that are sorted by size: upwards, and downwards in every second group, so
        that a batch across the border of two groups has examples of similar size, too.

    Returns
    -------
    ndarray of int, shape (n,)
        A permutation.

    Examples
    --------
    >>> from minigrad.ragged.loader import order
    >>> order(np.array([3, 1, 2, 9, 7, 8]), bucket=3)
    array([1, 2, 0, 3, 5, 4])
    """
    n = len(rows)
    examples = np.arange(n) if rng is None else rng.permutation(n)
    if bucket is None:
        return examples
    group = np.arange(n) // bucket
    size = rows[examples]
    return examples[np.lexsort((np.where(group % 2, -size, size), group))]


def cut(examples: np.ndarray, batch_size: int | None = None, limits: Sequence[tuple[np.ndarray, int]] = (),
        cost: Callable[[np.ndarray], int] | None = None, most: int = 0) -> tuple[list[np.ndarray], bool]:
    """Cut `examples` into consecutive batches, each as long as the limits allow.

    Parameters
    ----------
    examples : ndarray of int, shape (n,)
    batch_size : int, optional
        The largest number of examples of a batch.
    limits : sequence of (ndarray of int, int)
        The size of each example of the dataset, and the largest sum of sizes of a batch.
    cost : callable, optional
        ``cost(examples)`` returns bytes, no more for a part of the examples.
    most : int
        The largest cost of a batch, in bytes.

    Returns
    -------
    parts : list of ndarray of int
    full : bool
        Whether the last batch has reached `batch_size` or a limit.

    Raises
    ------
    BatchError
        If one example alone exceeds a limit.

    Examples
    --------
    >>> from minigrad.ragged.loader import cut
    >>> cut(np.arange(4), batch_size=3, limits=[(np.array([3, 1, 2, 4]), 6)])
    ([array([0, 1, 2]), array([3])], False)
    """
    n, parts, full, guess = len(examples), [], True, 1
    running = [(np.concatenate([[0], np.cumsum(counts[examples])]), limit) for counts, limit in limits]
    start = 0
    while start < n:
        stop = min(n, start + (batch_size or n))
        for total, limit in running:
            stop = min(stop, int(np.searchsorted(total, total[start] + limit, side="right")) - 1)
        if stop == start:
            raise BatchError(at_user_line(f"DataLoader: example {examples[start]} alone exceeds the limits of a batch"))
        if cost is not None:
            guess = _fitting(cost, most, examples[start:stop], guess)
            stop = start + guess
        parts.append(examples[start:stop])
        full = stop - start == batch_size or any(total[stop] - total[start] == limit for total, limit in running)
        start = stop
    return parts, full


def _fitting(cost: Callable[[np.ndarray], int], most: int, examples: np.ndarray, guess: int = 1) -> int:
    """Return the number of first examples whose cost is at most `most`; the search starts at `guess`."""
    number = longest(lambda k: cost(examples[:k]), most, len(examples), guess)
    if not number:
        raise BatchError(at_user_line(f"DataLoader: example {examples[0]} alone exceeds the limits of a batch: it "
                                      f"needs {cost(examples[:1]):,} bytes, and {most:,} are allowed"))
    return number


def bytes_of_arrays(batch: PyTree) -> int:
    """Return the bytes of the arrays and data frames of a batch."""
    leaves: list[Any] = optree.tree_leaves(batch)
    return sum(int(np.sum(x.memory_usage())) if hasattr(x, "memory_usage") else _bytes_of(np.asarray(x))
               for x in leaves)


def _bytes_of(x: np.ndarray) -> int:
    """Return the bytes of an array, those that it repeats once."""
    elements: int = math.prod(n for n, stride in zip(x.shape, x.strides, strict=True) if stride)
    return elements * x.itemsize


def ahead(make: Callable[[int], Item], count: int, depth: int) -> Iterator[Item]:
    """Yield ``make(0)``, ..., ``make(count - 1)``, computed by a thread up to `depth` items ahead.

    The thread starts with the first item, and ends with the last one or when the iterator is closed or dropped. An
    error of ``make(k)`` is raised in place of item k. A forked process lacks the thread, and starts another one at its
    next item. Where no thread can start, that of the caller computes the items.
    """
    k = 0
    while k < count:
        process, worker = _forks, _Worker(make, k, count, depth)
        try:
            started = worker.start()
            while k < count and _forks == process:
                item = worker.take() if started else make(k)
                k += 1
                yield item
        finally:
            if _forks == process:  # in a fork, a missing thread may hold its locks
                worker.end()


_forks = 0  # the number of forks between the process that imported this module and the current one


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Worker(Generic[Item]):
    """A thread that computes items, and the queue of its results."""

    def __init__(self, make: Callable[[int], Item], first: int, count: int, depth: int):
        self._room = threading.Semaphore(depth)
        self._results: queue.SimpleQueue[tuple[Item, None] | tuple[None, BaseException]] = queue.SimpleQueue()
        self._ended = False
        self.thread = threading.Thread(target=self._work, args=(make, first, count), name="minigrad-loader",
                                       daemon=True)

    def start(self) -> bool:
        """Start the thread, and return whether it could start."""
        with contextlib.suppress(RuntimeError):
            self.thread.start()
            return True
        return False

    def _work(self, make: Callable[[int], Item], first: int, count: int) -> None:
        for k in range(first, count):
            self._room.acquire()
            if self._ended:
                return
            try:
                self._results.put((make(k), None))
            except BaseException as error:  # the consumer raises it
                self._results.put((None, error))
                return

    def take(self) -> Item:
        """Return the next item, or raise its error."""
        result = self._results.get()
        if result[1] is not None:
            raise result[1]
        self._room.release()
        return result[0]

    def end(self) -> None:
        """End the thread, and wait for its end; an interrupted start leaves a thread that has not begun."""
        self._ended = True
        self._room.release()
        if self.thread.is_alive() and threading.current_thread() is not self.thread:  # it may run the collector
            self.thread.join()


def _delivered(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items, and filter the tracebacks of errors for users."""
    try:
        yield from items
    except Exception as error:
        raise for_user(error)  # noqa: B904


def _shown(items: Iterable[Item], sizes: Sequence[int], text: str) -> Iterator[Item]:
    """Yield batches of some sizes, with a progress bar."""
    with examples_bar(text, len(sizes)) as update:
        examples = 0
        for k, item in enumerate(items):
            yield item
            examples += sizes[k]
            update(k + 1, examples)


def _size(sizes: Mapping[Axis | str, np.ndarray], axis: Axis | str) -> np.ndarray:
    if axis not in sizes:
        known = ", ".join(map(str, sizes)) or "none: its examples are of equal shape, give batch_size"
        raise BatchError(at_user_line(f"DataLoader: max_rows names {axis}, and the dataset's ragged axes are {known}"))
    return np.asarray(sizes[axis], np.int64)


def _check_each_fits(counts: np.ndarray, limit: int, axis: Axis | str) -> None:
    if len(counts) and counts.max() > limit:
        worst = int(counts.argmax())
        raise BatchError(at_user_line(
            f"DataLoader: example {worst} has {counts[worst]} rows of {axis}, and max_rows allows {limit} in a batch. "
            f"Raise it, or leave out the {np.count_nonzero(counts > limit)} examples above it"))


def _check_shard(shard: tuple[int, int]) -> None:
    pair = isinstance(shard, (tuple, list)) and len(shard) == 2
    if not pair or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in shard):
        raise BatchError(at_user_line(f"DataLoader: shard must be two ints, (rank, world), got {shard!r}"))
    rank, world = shard
    if world < 1:
        raise BatchError(at_user_line(f"DataLoader: shard {shard!r}: there must be at least one rank"))
    if not 0 <= rank < world:
        raise BatchError(at_user_line(f"DataLoader: shard {shard!r}: the ranks of {world} are 0 to {world - 1}"))


def _check_positive(**numbers: int | None) -> None:
    for name, n in numbers.items():
        if n is not None and n < 1:
            raise BatchError(at_user_line(f"DataLoader: {name} must be at least 1, got {n}"))
