"""The scheduler of Dask that computes for an executor."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import dask
from dask.delayed import Delayed

from ...errors import MinigradError
from ...graph import PyTree
from ..executors import DaskClient, Executor, in_process, is_dask_client, refuse_closed
from . import timed


class Scheduler:
    """The scheduler of Dask that computes for an executor.

    A client is its own; other executors are the pool of a local scheduler. Without an executor it is the client that is
    current, or Dask's local scheduler.
    """

    def __init__(self, executor: Executor | None, timeout: float | None, name: str):
        self._timeout, self._name = timeout, name
        self._options: dict[str, PyTree] = {}
        self.client = executor if is_dask_client(executor) else None
        if executor is None:
            self.client = _current_client()
        else:
            refuse_closed(executor, name)
            if self.client is None:
                self._options = {"scheduler": executor} if in_process(executor) else {
                    "scheduler": "processes", "pool": executor, "chunksize": 1}
        if self.client is None and timeout is not None:
            timed.refuse_untimed(self._options, timeout, name)

    @property
    def pickles(self) -> bool:
        """Whether programs travel to other processes."""
        return self.client is not None or "pool" in self._options

    def kept(self, x: Delayed) -> Delayed:
        """Return a value that stays on the cluster."""
        if self.client is None:
            return x
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # it is sent once
            return self.client.persist(x)

    def is_kept(self, x: Delayed) -> bool:
        """Return whether a value that was kept is still on the cluster."""
        if self.client is None:
            return True
        futures = sys.modules["distributed"].futures_of(x)
        return all(f.client is self.client and f.status in ("finished", "pending") for f in futures)

    def values(self, tasks: Sequence[Delayed], place: str = "chunk") -> Iterator[PyTree]:
        """Yield the results of tasks, in their order; errors name the place."""
        if self.client is None and self._timeout is None:
            try:
                results = iter(dask.compute(*tasks, **self._options))
            except Exception as error:
                self._raise(error, "" if place == "chunk" else f"{place}: ")
            yield from results
            return
        results = (self._on_cluster(self.client, tasks) if self.client is not None else
                   timed.results(tasks, self._timeout or 0.0, self._options))
        for k in range(len(tasks)):
            try:
                result = next(results)
            except Exception as error:
                self._raise(error, f"chunk {k} of {len(tasks)}: " if place == "chunk" else f"{place}: ")
            yield result

    def _raise(self, error: Exception, where: str) -> NoReturn:
        """Raise an error of tasks, with the place of one that is not of the user's program."""
        if isinstance(error, MinigradError) or type(error) is IndexError:
            raise error
        why = (f"no result in {self._timeout} s" if isinstance(error, TimeoutError)
               else f"{type(error).__name__}: {error}")
        raise MinigradError(f"{self._name}: {where}{why}") from error

    def _on_cluster(self, client: DaskClient, tasks: Sequence[Delayed]) -> Iterator[PyTree]:
        """Yield the results of tasks on a cluster, each at most a time-out after the one before."""
        futures = client.compute(list(tasks))
        try:
            for k in range(len(futures)):
                yield futures[k].result(self._timeout)
                futures[k] = None  # the cluster may forget it
        except BaseException:
            client.cancel([f for f in futures if f is not None])
            raise

    def value(self, x: PyTree, place: str) -> PyTree:
        """Return the value of a collection."""
        (value,) = self.values([dask.delayed(x)], place)
        return value


def _current_client() -> DaskClient | None:
    """Return the client that is current, if there is one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        client: DaskClient = distributed.default_client()
    except ValueError:
        return None
    return client
