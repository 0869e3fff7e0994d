"""Executors: anything with the interface of `concurrent.futures`, or a function that makes one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeGuard, TypeVar, cast

from ..errors import MinigradError, at_user_line
from ..graph import PyTree

T = TypeVar("T")
R = TypeVar("R")
Result = TypeVar("Result", covariant=True)


class Future(Protocol[Result]):
    """A result that is under way, as of `concurrent.futures`."""

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result."""

    def cancel(self) -> object:
        """Give the result up."""


class Executor(Protocol):
    """Anything with the interface of `concurrent.futures.Executor`."""

    def submit(self, fn: Callable[[T], R], /, task: T) -> Future[R]:
        """Start a call."""


class DaskClient(Protocol):
    """The executor of Dask."""

    status: str

    def submit(self, fn: Callable[[T], R], /, task: T, *, pure: bool) -> Future[R]:
        """Start a call; a pure one is taken for another with the same arguments."""

    def nthreads(self) -> dict[str, int]:
        """Return the number of threads of each worker."""

    def compute(self, collections: PyTree) -> PyTree:
        """Start to compute collections; a future stands for the value of each."""

    def persist(self, collections: PyTree) -> PyTree:
        """Start to compute collections, whose values stay on the workers."""

    def cancel(self, futures: PyTree) -> object:
        """Give futures up."""


def is_executor(x: object) -> TypeGuard[Executor]:
    """Return whether `x` starts calls."""
    return hasattr(x, "submit")


def is_dask_client(x: object) -> TypeGuard[DaskClient]:
    """Return whether `x` is the executor of Dask."""
    return hasattr(x, "nthreads")  # a check of the protocol takes as long as a small part


def refuse_closed(executor: Executor, name: str) -> None:
    """Raise `MinigradError` if a client of Dask is closed, whose own errors do not say so."""
    if is_dask_client(executor) and executor.status in ("closing", "closed"):
        raise MinigradError(at_user_line(f"{name}: the Dask client is closed: give one that is open"))


class Renewable:
    """An executor; a function that returns one is called again after a pool has broken.

    Parameters
    ----------
    source : executor, or function of no argument that returns one
    """

    def __init__(self, source: Executor | Callable[[], Executor]):
        self._make = None if is_executor(source) else cast(Callable[[], Executor], source)
        self._executor = source if is_executor(source) else None
        self.again = self._make is not None

    @property
    def executor(self) -> Executor:
        """The executor that is in use."""
        if self._executor is None:
            assert self._make is not None
            made = self._make()
            if not is_executor(made):
                raise MinigradError(at_user_line(f"distribute: the function that makes an executor returned {made!r}"))
            self._executor = made
        return self._executor

    def renew(self, broken: Executor) -> None:
        """Give up a broken executor, unless another thread has done so."""
        if self.again and self._executor is broken:
            self._executor = None


def in_process(executor: Executor) -> bool:
    """Return whether the workers are threads of this process, to which nothing is sent."""
    return isinstance(executor, ThreadPoolExecutor)


def submit(executor: Executor, function: Callable[[T], R], task: T) -> Future[R]:
    """Start a call on an executor.

    Dask takes calls with the same arguments for one: it would cancel a call together with an earlier one, and miss
    that a file has changed.
    """
    if is_dask_client(executor):
        return executor.submit(function, task, pure=False)
    return executor.submit(function, task)


def workers(executor: Executor) -> int:
    """Return the number of workers of an executor."""
    if is_dask_client(executor):
        return sum(executor.nthreads().values())
    for name in ("_max_workers", "num_workers"):
        if isinstance(n := getattr(executor, name, None), int):
            return n
    return os.cpu_count() or 1
