"""Calls of a function on chunks: aligned, sent, and added up."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, pairwise

import dask
import dask.array as da
import numpy as np
import optree
from dask.bag import Bag
from dask.delayed import Delayed

from ...errors import BatchError, MinigradError, at_user_line
from ...graph import InAxes, PyTree
from ...immutable import cached_property
from ...ragged.batch import Batch, is_batch
from ...symbolic import Symbol
from ...transforms.graph_forms import leaf_axes
from ...transforms.static_arguments import is_static
from ..chunks import Results, Sent, shared_leaves
from ..divide import Divided, Dividing, Values
from ..executors import Executor
from ..versions import SMALL, Versions
from .arguments import ArrayChunks, BagChunks, ChunkError, Chunks, FrameChunks, LocalChunks, is_collection
from .results import Lazy, in_chunks, with_bags
from .scheduler import Scheduler
from .tasks import Place, count_chunk, first_of, length, paths_of, run, some

_ROWS = 1000  # examples of a stand-in for a data frame: a hint of the order of magnitude


class Collections:
    """The calls of a function whose arguments are collections of Dask.

    Parameters
    ----------
    dividing : Dividing
    in_axes : optional
        As of `microbatch`.
    timeout : float or None
        The seconds to wait for a part.
    bar : callable
        From the number of parts to a progress bar: a context manager of a function of the parts and the examples that
        are done.
    """

    def __init__(self, dividing: Dividing, in_axes: InAxes, timeout: float | None,
                 bar: Callable[[int], AbstractContextManager[Callable[[int, int], None]]]):
        self._dividing, self._in_axes, self._timeout, self._bar = dividing, in_axes, timeout, bar
        self._name = f"distribute({dividing.name})"
        self._programs: dict[tuple[Divided, tuple[int, ...]], Sent] = {}
        self._counts: dict[tuple[object, ...], list[tuple[int, ...]]] = {}
        self._examples: dict[str, PyTree] = {}
        self._versions, self._kept = Versions(), dict[tuple[str, int], tuple[str, Delayed]]()

    def leaves(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]
               ) -> tuple[list[PyTree], optree.PyTreeSpec, list[int | None]]:
        """Return the arguments, a batch or a collection as one, their pytree, and their batch axes."""
        tree: PyTree = (args, kwargs)
        leaves, structure = optree.tree_flatten(tree, is_leaf=is_batch)
        positional, by_keyword = structure.children()
        declared = leaf_axes(self._in_axes, positional, by_keyword, self._dividing.parameters, self._name)
        return leaves, structure, [None if is_static(x) and not is_collection(x) else a
                                   for x, a in zip(leaves, declared, strict=True)]

    def shared(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], executor: Executor | None
               ) -> tuple[tuple[PyTree, ...], dict[str, PyTree]]:
        """Return the arguments with the values of collections that have no batch axis."""
        scheduler = Scheduler(executor, self._timeout, self._name)
        leaves, structure, axes = self.leaves(args, kwargs)
        opened = [scheduler.value(x, f"argument {k}") if axis is None and is_collection(x) else x
                  for k, (x, axis) in enumerate(zip(leaves, axes, strict=True))]
        values: PyTree = optree.tree_unflatten(structure, opened)
        args, kwargs = values
        return args, kwargs

    def __call__(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], executor: Executor | None) -> PyTree:
        """Return the result: results per example as Dask arrays, others as NumPy's."""
        scheduler = Scheduler(executor, self._timeout, self._name)
        call = _Chunked(self, args, kwargs, scheduler)
        try:
            return call.result()
        except ChunkError as error:
            raise BatchError(at_user_line(str(error))) from error
        except MinigradError as error:
            if not str(error).startswith(self._name):
                raise
            raise type(error)(at_user_line(str(error))) from error

    # -- kept between calls

    def program(self, divided: Divided, leaves: tuple[int, ...]) -> Sent:
        """Return the program of a chunk."""
        if (divided, leaves) not in self._programs:
            self._programs[divided, leaves] = Sent.of(divided, leaves)
        return self._programs[divided, leaves]

    def counts(self, key: tuple[object, ...], count: Callable[[], list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
        """Return the counts of chunks, counted once: collections of one name are the same."""
        if None in key:
            return count()
        if key not in self._counts:
            self._counts[key] = count()
        return self._counts[key]

    def example(self, bag: Bag, scheduler: Scheduler) -> PyTree:
        """Return the first example of a bag."""
        if bag.name not in self._examples:
            for partition in bag.to_delayed():
                if found := scheduler.value(dask.delayed(first_of)(partition), "the first example"):
                    (self._examples[bag.name],) = found
                    break
            else:
                raise BatchError(at_user_line(f"{self._name}: an empty batch, without an example"))
        return self._examples[bag.name]

    def literal(self, x: PyTree, key: str, place: int, scheduler: Scheduler | None) -> Delayed:
        """Return a value that all chunks share; a cluster keeps it until it changes.

        Without a scheduler it is for lazy results, which any scheduler may compute later.
        """
        if scheduler is None:
            return dask.delayed(x, name=f"{self._name}-shared-{uuid.uuid4().hex}", traverse=False)
        version = key if isinstance(x, Sent) else self._versions.of(key, place, x)[0]
        name, kept = self._kept.get((key, place), ("", None))
        if kept is None or name != version or not scheduler.is_kept(kept):
            unique = f"{self._name}-shared-{uuid.uuid4().hex}"
            kept = scheduler.kept(dask.delayed(x, name=unique, traverse=False))
            self._kept[key, place] = version, kept
        return kept


class _Chunked:
    """One call."""

    def __init__(self, calls: Collections, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], scheduler: Scheduler):
        self._calls, self._scheduler, self._name = calls, scheduler, calls._name
        leaves, structure, axes = calls.leaves(args, kwargs)
        names = calls._dividing.names(args, kwargs)
        self._labels = [name for name, axis in zip(names, axes, strict=True) if axis is not None]
        self._sources = [self._source(x, axis, name) for x, axis, name in zip(leaves, axes, names, strict=True)
                         if axis is not None]
        self._align()
        n = max(2, self._sizes[0]) if self._sizes else _ROWS
        n = 2 if any(isinstance(s, BagChunks) for s in self._sources) else n
        stand_ins = [s.stand_in(n) for s in self._sources]
        self._paths = [paths_of(x) for x in stand_ins]
        following = iter(stand_ins)
        filled: list[PyTree] = [x if axis is None else next(following) for x, axis in zip(leaves, axes, strict=True)]
        like: PyTree = optree.tree_unflatten(structure, filled)
        self._divided, self._arrays, self._of_stand_in = calls._dividing(*like)
        ends = accumulate((len(optree.tree_leaves(x)) for x in filled), initial=0)
        self._mapped = tuple(k for (a, b), axis in zip(pairwise(ends), axes, strict=True) if axis is not None
                             for k in range(a, b))
        self._sent = calls.program(self._divided, self._mapped)

    def _source(self, x: PyTree, axis: int, label: str) -> Chunks:
        """Return an argument with the batch axis."""
        if isinstance(x, Bag):
            return BagChunks(x, axis, label, lambda bag: self._calls.example(bag, self._scheduler))
        if isinstance(x, da.Array) or not is_collection(x):
            array = x if isinstance(x, (Batch, da.Array)) else np.asarray(x)
            if not isinstance(array, Batch):
                if not -array.ndim <= axis < array.ndim:
                    raise BatchError(at_user_line(f"{self._name}: {label}: {array.dtype}{list(array.shape)} has no "
                                                  f"axis {axis} to map over"))
                axis %= array.ndim
            return ArrayChunks(x, axis, label) if isinstance(x, da.Array) else LocalChunks(array, axis, label)
        if hasattr(x, "_meta") and hasattr(x, "npartitions"):
            return FrameChunks(x, axis, label)
        raise BatchError(at_user_line(f"{self._name}: {label} is a Dask {type(x).__name__}; arrays, data frames and "
                                      "bags have chunks, which da.from_delayed and dd.from_delayed make"))

    # -- sizes

    def _align(self) -> None:
        """Find the number of chunks, and their sizes where they are known without reading."""
        collections = [s for s in self._sources if not isinstance(s, LocalChunks)]
        lead = next((s for s in collections if s.sizes is None), collections[0])
        self._sizes: list[int] | None = lead.sizes
        for s, label in zip(self._sources, self._labels, strict=True):
            if s.sizes is None and s.count != lead.count:
                raise BatchError(at_user_line(
                    f"{self._name}: {label} has {s.count} partitions, and another argument {lead.count}: repartition "
                    "them alike"))
        known = [(s, label) for s, label in zip(self._sources, self._labels, strict=True) if s.sizes is not None]
        if self._sizes is None and known:
            self._sizes = self._lengths(lead)
        for s, label in known:
            total, own = sum(self._sizes or ()), sum(s.sizes or ())
            if own != total:
                raise BatchError(at_user_line(f"{self._name}: batch sizes differ: {label} has {own} examples, and "
                                              f"{self._labels[self._sources.index(lead)]} {total}"))
        if self._sizes is not None and not sum(self._sizes):
            raise BatchError(at_user_line(f"{self._name}: an empty batch, without an example"))
        self._count = len(self._sizes) if self._sizes is not None else lead.count

    def _lengths(self, source: Chunks) -> list[int]:
        """Return the numbers of examples of the partitions of a bag, frame or array, which are read for it."""
        def count() -> list[tuple[int, ...]]:
            tasks = [dask.delayed(length, pure=False)(block) for block in source.counted()]
            return [(n,) for n in self._scheduler.values(tasks)]

        return [n for n, in self._calls.counts(("length", source.name), count)]

    @cached_property
    def _chunks(self) -> list[tuple[PyTree, ...]]:
        """The chunk of each argument, for each part."""
        return list(zip(*(s.chunks(self._sizes) for s in self._sources), strict=True))

    def _counted(self) -> list[tuple[int, ...]]:
        """Return the counts of all chunks, before they run."""
        packed = self._divided.node.params["packed"]
        if not packed:
            if self._sizes is None:
                self._sizes = self._lengths(self._sources[0])
            return [(n,) for n in self._sizes]

        def count() -> list[tuple[int, ...]]:
            return [r.counts for r in self._scheduler.values(self._tasks(count_chunk, [], self._sizes, True))]

        return self._calls.counts((*(s.name for s in self._sources), *map(str, packed)), count)

    def _whole(self, counts: Sequence[tuple[int, ...]]) -> dict[Symbol, int]:
        """Return the sizes of the whole batch."""
        totals = [sum(column) for column in zip(*counts, strict=True)]
        if not totals or not totals[0]:
            raise BatchError(at_user_line(f"{self._name}: an empty batch, without an example"))
        return {**self._of_stand_in,
                **{symbol: n for (_, symbol), n in zip(self._divided.symbols, totals, strict=True)}}

    # -- parts

    def _tasks(self, function: Callable[..., Results], shared: Values, sizes: Sequence[int] | None, now: bool
               ) -> list[Delayed]:
        """Return a call for each chunk, for now or for later."""
        if self._scheduler.pickles:
            _ = self._sent.body  # an error of pickling names the node
        literal = functools.partial(self._calls.literal, scheduler=self._scheduler if now else None)
        key = str(id(self._sent))
        program = literal(self._sent, key, -1)
        values = [literal(x, key, k) if x.nbytes > SMALL else x for k, x in enumerate(shared)]
        edges = [0, *accumulate(sizes or ())]
        spans = [None] * self._count if sizes is None else list(pairwise(edges))
        names, unique = f"{self._name}-{function.__name__}", uuid.uuid4().hex
        call = dask.delayed(function, pure=False)
        return [call(program, values, self._paths, Place(self._name, k, self._count, span), *blocks,
                     dask_key_name=f"{names}-{unique}-{k}")
                for k, (span, blocks) in enumerate(zip(spans, self._chunks, strict=True))]

    def result(self) -> PyTree:
        """Return the result of the call."""
        divided = self._divided
        p = divided.node.params
        lazy, batches = in_chunks(divided)
        rest = [k for k in range(len(divided.graph.outputs)) if k not in lazy]
        after = divided.after.of(rest)
        first_result = len(divided.graph.inputs)
        wanted = sorted({k - first_result for k in after.reads if k >= first_result}
                        | {i for i, axis in enumerate(p["out_axes"]) if axis is None and rest})
        self._refuse(after.reads)
        counts = self._counted() if divided.shared.reads or divided.shared.entry.graph.outputs else None
        sizes = self._sizes if counts is None else [n for n, *_ in counts]
        whole = self._of_stand_in if counts is None else self._whole(counts)
        shared = divided.shared_operands(self._arrays, whole)
        shared += [self._arrays[k] for k in shared_leaves(divided, self._mapped)]
        parts = self._tasks(run, shared, sizes, bool(rest))
        values: dict[int, np.ndarray] = {}
        if rest:
            if lazy:
                parts = [self._scheduler.kept(part) for part in parts]
            select = dask.delayed(some, pure=False)
            results = self._computed([select(part, wanted) for part in parts])
            whole = self._whole([r.counts for r in results])
            sizes = [r.counts[0] for r in results]
            computed = after([*self._arrays, *self._combined(results, wanted)], whole)
            values = dict(zip(rest, computed, strict=True))
        later = Lazy(divided, parts, sizes, self._of_stand_in)
        bags = {k: bag for b, places in batches for bag in [later.bag(b)] for k in places}
        others = {k: bags[k] if k in bags else later.array(i) for k, i in lazy.items()}
        return with_bags(divided.result(values, others))

    def _computed(self, tasks: Sequence[Delayed]) -> list[Results]:
        """Return the results of tasks, in their order, with a progress bar if one is asked for."""
        results: list[Results] = []
        with self._calls._bar(len(tasks)) as show:
            examples = 0
            for result in self._scheduler.values(tasks):
                results.append(result)
                examples += result.counts[0]
                show(len(results), examples)
        return results

    def _refuse(self, reads: Sequence[int]) -> None:
        """Refuse results that chunks do not have."""
        for k in reads:
            if k in self._mapped:
                raise BatchError(at_user_line(
                    f"{self._name}: a result needs all examples of {self._divided.graph.names[k]} at once, which lie "
                    "in chunks"))

    def _combined(self, results: Sequence[Results], wanted: Sequence[int]) -> list[np.ndarray]:
        """Return the results of all chunks: sums added up in their order, rows end to end."""
        axes = self._divided.node.params["out_axes"]
        sums = [j for j, i in enumerate(wanted) if axes[i] is None]
        terms = ([x for j in sums if (x := r.values[j]) is not None] for r in results if r.counts[0])
        out = dict(zip([wanted[j] for j in sums], self._divided.summed(terms), strict=True))
        for j, i in enumerate(wanted):
            if axes[i] is not None:
                assert i not in self._divided.positions.moved  # no value is computed from positions
                out[i] = np.concatenate([x for r in results if (x := r.values[j]) is not None], axis=axes[i])
        return [out.get(i, np.empty(0)) for i in range(len(axes))]
