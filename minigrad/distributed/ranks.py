"""Messages between the ranks of a communicator: numbers, errors, and sums in the order of the ranks."""

from __future__ import annotations

import functools
import operator
from collections.abc import Hashable, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np

from ..errors import MinigradError, at_user_line
from ..graph import PyTree
from ..ops.accumulators import Chains, accumulator

_SMALL = 1 << 13  # bytes of a rank's sums that all ranks get at once: a second message costs more than they do


class Communicator(Protocol):
    """A group of processes, as of mpi4py."""

    def Get_rank(self) -> int:
        """Return the number of this process."""

    def Get_size(self) -> int:
        """Return the number of processes."""

    def allgather(self, sendobj: PyTree) -> list[PyTree]:
        """Return the objects of all ranks, in their order."""


@runtime_checkable
class Buffers(Communicator, Protocol):
    """A communicator that sends arrays without pickles."""

    def Allgather(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> None:
        """Get the arrays of all ranks."""

    def Alltoall(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> None:
        """Get this rank's row of the arrays of all ranks."""


class Request(Protocol):
    """A message under way."""

    def Test(self) -> bool:
        """Return whether it has arrived, and let it go on."""

    def Wait(self) -> object:
        """Wait for it."""


@runtime_checkable
class Nonblocking(Communicator, Protocol):
    """A communicator whose messages are under way while a rank computes."""

    def Ialltoall(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> Request:
        """Begin to get this rank's row of the arrays of all ranks."""


def sends_buffers(comm: Communicator) -> TypeGuard[Buffers]:
    """Return whether a communicator sends arrays without pickles."""
    return _of_buffers(comm.__class__)


@functools.cache
def _of_buffers(kind: Hashable) -> bool:  # cached, as a test of a protocol costs 10 µs
    return isinstance(kind, type) and issubclass(kind, Buffers)


def is_nonblocking(comm: Communicator) -> TypeGuard[Nonblocking]:
    """Return whether the messages of a communicator may be under way while a rank computes."""
    return _nonblocking(comm.__class__)


@functools.cache
def _nonblocking(kind: Hashable) -> bool:
    return isinstance(kind, type) and issubclass(kind, Nonblocking)


def gathered(comm: Communicator, x: np.ndarray) -> np.ndarray:
    """Return the arrays of all ranks, of one shape and dtype, as rows."""
    if not sends_buffers(comm):
        return np.stack(comm.allgather(x))
    out = np.empty((comm.Get_size(), *x.shape), x.dtype)
    comm.Allgather(np.ascontiguousarray(x), out)
    return out


def exchanged(comm: Communicator, x: np.ndarray) -> np.ndarray:
    """Return this rank's row of the arrays of all ranks."""
    if not sends_buffers(comm):
        return np.stack([rows[comm.Get_rank()] for rows in comm.allgather(x)])
    out = np.empty_like(x)
    comm.Alltoall(x, out)
    return out


class Ranks:
    """The ranks of a call; an error of one is raised on all.

    Without that, ranks would wait for one that has raised, or that Ctrl-C has stopped.
    """

    def __init__(self, comm: Communicator, name: str):
        self.comm, self._name = comm, name

    def tell(self, message: PyTree, error: BaseException | None) -> list[PyTree]:
        """Return the messages of all ranks, or raise the error of one."""
        text = None if error is None else f"{type(error).__name__}: {error}"
        told = self.comm.allgather((text, message))
        if error is not None:
            raise error
        failed = {k: text for k, (text, _) in enumerate(told) if text is not None}
        if failed:
            first = min(failed)
            raise MinigradError(at_user_line(
                f"all_reduce({self._name}): rank{'s' * (len(failed) > 1)} {', '.join(map(str, failed))} raised an "
                f"error; rank {first}: {failed[first]}"))
        return [message for _, message in told]

    def sums(self, values: Sequence[np.ndarray], present: Sequence[bool], error: BaseException | None,
             early: Early | None = None) -> list[np.ndarray]:
        """Return the sums of all ranks' values, added up in the order of the ranks, or raise the error of one.

        Each rank adds up a share of the numbers, and sends it to all. For sums of N bytes, it receives less than 2 N
        bytes.

        Parameters
        ----------
        values : sequence of arrays
            Of the same shapes and dtypes on all ranks.
        present : sequence of bool
            Which ranks have terms.
        error : exception or None
            The error of this rank, whose values do not count then.
        early : Early, optional
            The values that are under way.
        """
        out: dict[int, np.ndarray] = {}
        sent = set() if early is None else early.arrived(values)
        if len(sent) == len(values):
            self._check(gathered(self.comm, np.array([error is not None])), error)
        for dtype in dict.fromkeys(v.dtype for k, v in enumerate(values) if k not in sent):
            places = [k for k, v in enumerate(values) if v.dtype == dtype and k not in sent]
            terms = np.concatenate([np.ravel(values[k]) for k in places], dtype=accumulator(dtype))
            total = self._sum(terms, present, error).astype(dtype, copy=False)
            ends = np.cumsum([values[k].size for k in places])
            out |= {k: piece.reshape(values[k].shape)
                    for k, piece in zip(places, np.split(total, ends[:-1]), strict=True)}
        if early is not None:
            out |= early.totals(present)
        return [out[k] for k in range(len(values))]

    def _sum(self, terms: np.ndarray, present: Sequence[bool], error: BaseException | None) -> np.ndarray:
        """Return the sum of an array over the ranks; a last number of each message says whether the rank failed."""
        n, size = len(terms), len(present)
        if n * terms.itemsize <= _SMALL or size == 1:
            rows = gathered(self.comm, np.append(terms, terms.dtype.type(error is not None)))
            self._check(rows, error)
            return _in_order(rows[:, :-1], present)
        rows = exchanged(self.comm, _shares(terms, size, terms.dtype.type(error is not None)))
        self._check(rows, error)
        return gathered(self.comm, _in_order(rows[:, :-1], present)).reshape(-1)[:n]

    def _check(self, rows: np.ndarray, error: BaseException | None) -> None:
        """Raise the errors of the ranks, if any has failed."""
        if rows[:, -1].any():
            self.tell(None, error)


def _shares(terms: np.ndarray, size: int, *last: np.generic) -> np.ndarray:
    """Return the numbers in rows of equal length, one for each rank, each with the `last` ones at its end."""
    share = -(-len(terms) // size)
    rows = np.zeros((size, share + len(last)), terms.dtype)
    for k, row in enumerate(rows):
        own = terms[k * share:(k + 1) * share]
        row[:len(own)] = own
        row[share:] = last
    return rows


class Early:
    """Values that are sent while the rank computes others, all in one order on all ranks.

    Parameters
    ----------
    comm : communicator
    order : sequence of int
        The numbers of these values, in the order in which they become ready.
    """

    def __init__(self, comm: Communicator, order: Sequence[int]):
        self._comm, self._order, self._begun = comm, order, 0
        self._sent: dict[int, tuple[Request, np.ndarray, np.ndarray]] = {}
        self._like: dict[int, np.ndarray] = {}

    def ready(self, k: int, value: np.ndarray) -> None:
        """Send a value if it is the next in the order, and let those under way go on."""
        for request, _, _ in self._sent.values():
            request.Test()
        if self._begun == len(self._order) or k != self._order[self._begun]:
            return
        assert is_nonblocking(self._comm)
        rows = _shares(np.ravel(value).astype(accumulator(value.dtype), copy=False), self._comm.Get_size())
        received = np.empty_like(rows)
        self._sent[k] = self._comm.Ialltoall(rows, received), rows, received  # the message needs its rows until it ends
        self._begun += 1

    def arrived(self, values: Sequence[np.ndarray]) -> set[int]:
        """Send the remaining values, wait until all have arrived, and return their numbers."""
        for k in self._order[self._begun:]:
            self.ready(k, values[k])
        for k, (request, _, _) in self._sent.items():
            request.Wait()
            self._like[k] = values[k]
        return {*self._order}

    def totals(self, present: Sequence[bool]) -> dict[int, np.ndarray]:
        """Return the sums over the ranks."""
        out = {}
        for k, (_, _, received) in self._sent.items():
            like = self._like[k]
            total = gathered(self._comm, _in_order(received, present)).reshape(-1)[:like.size]
            out[k] = total.astype(like.dtype, copy=False).reshape(like.shape)
        return out


def _in_order(rows: np.ndarray, present: Sequence[bool]) -> np.ndarray:
    """Return the sum of those rows that are present, in chains as `Divided.summed` adds parts up."""
    chains: Chains[np.ndarray] = Chains(operator.iadd)
    for row, counts in zip(rows, present, strict=True):
        if counts:
            chains.take(row)
    total = chains.total()
    assert total is not None
    return total
