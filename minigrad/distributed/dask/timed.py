"""Dask's local schedulers, which know no time-out, within one."""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import dask
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.delayed import Delayed

from ...errors import MinigradError, at_user_line
from ...graph import PyTree


class Stopped(Exception):
    """The caller has given up."""


def refuse_untimed(options: Mapping[str, PyTree], timeout: float, name: str) -> None:
    """Raise `MinigradError` if the local scheduler does not tell which tasks have ended."""
    get = get_scheduler(scheduler=options.get("scheduler"))
    if get is None:  # that of the collection, one of Dask's
        return
    parameters = inspect.signature(get).parameters
    if "callbacks" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise MinigradError(at_user_line(f"{name}: timeout={timeout}, but the scheduler {get!r} takes no callbacks, "
                                         "which tell when a chunk has ended. Give a client, or no time-out"))


def results(tasks: Sequence[Delayed], timeout: float, options: Mapping[str, PyTree]) -> Iterator[PyTree]:
    """Yield the results of tasks in their order, each at most `timeout` seconds after the one before.

    The scheduler runs in a thread of its own. When the caller gives up, or a result is late, no further task begins;
    tasks that run end by themselves.

    Raises
    ------
    TimeoutError
        If a result is late.
    """
    ended: queue.SimpleQueue[tuple[str, PyTree] | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def begins(key: str, dsk: PyTree, state: PyTree) -> None:
        if stop.is_set():
            raise Stopped

    def ends(key: str, value: PyTree, dsk: PyTree, state: PyTree, worker: PyTree) -> None:
        ended.put((key, value))

    def compute() -> None:
        callbacks = [*Callback.active, (None, None, begins, ends, None)]
        try:
            dask.compute(*tasks, **{"chunksize": 1, **options, "callbacks": callbacks})
        except BaseException as error:  # raised again in the caller's thread
            ended.put(error)

    threading.Thread(target=compute, name="minigrad-dask", daemon=True).start()
    arrived: dict[str, PyTree] = {}
    try:
        for task in tasks:
            latest = time.monotonic() + timeout
            while task.key not in arrived:
                try:
                    event = ended.get(timeout=max(0.0, latest - time.monotonic()))
                except queue.Empty:
                    raise TimeoutError from None
                if isinstance(event, BaseException):
                    raise event
                arrived[event[0]] = event[1]
            yield arrived.pop(task.key)
    finally:
        stop.set()
