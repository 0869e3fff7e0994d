"""Messages between the ranks of a communicator: numbers, errors, and sums in the order of the ranks."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

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
class Buffers(Protocol):
    """A communicator that sends arrays without pickles."""

    def Allgather(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> None:
        """Get the arrays of all ranks."""

    def Alltoall(self, sendbuf: np.ndarray, recvbuf: np.ndarray) -> None:
        """Get this rank's row of the arrays of all ranks."""


def gathered(comm: Communicator, x: np.ndarray) -> np.ndarray:
    """Return the arrays of all ranks, of one shape and dtype, as rows."""
    if not isinstance(comm, Buffers):
        return np.stack(comm.allgather(x))
    out = np.empty((comm.Get_size(), *x.shape), x.dtype)
    comm.Allgather(np.ascontiguousarray(x), out)
    return out


def exchanged(comm: Communicator, x: np.ndarray) -> np.ndarray:
    """Return this rank's row of the arrays of all ranks."""
    if not isinstance(comm, Buffers):
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

    def sums(self, values: Sequence[np.ndarray], present: Sequence[bool], error: BaseException | None
             ) -> list[np.ndarray]:
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
        """
        out: dict[int, np.ndarray] = {}
        for dtype in dict.fromkeys(v.dtype for v in values):
            places = [k for k, v in enumerate(values) if v.dtype == dtype]
            terms = np.concatenate([np.ravel(values[k]) for k in places], dtype=accumulator(dtype))
            total = self._sum(terms, present, error).astype(dtype, copy=False)
            ends = np.cumsum([values[k].size for k in places])
            out |= {k: piece.reshape(values[k].shape)
                    for k, piece in zip(places, np.split(total, ends[:-1]), strict=True)}
        return [out[k] for k in range(len(values))]

    def _sum(self, terms: np.ndarray, present: Sequence[bool], error: BaseException | None) -> np.ndarray:
        """Return the sum of an array over the ranks; a last number of each message says whether the rank failed."""
        n, size = len(terms), len(present)
        if n * terms.itemsize <= _SMALL or size == 1:
            rows = gathered(self.comm, np.append(terms, terms.dtype.type(error is not None)))
            self._check(rows, error)
            return _in_order(rows[:, :-1], present)
        share = -(-n // size)
        rows = np.zeros((size, share + 1), terms.dtype)
        for k, row in enumerate(rows):
            own = terms[k * share:(k + 1) * share]
            row[:len(own)] = own
        rows[:, share] = error is not None
        rows = exchanged(self.comm, rows)
        self._check(rows, error)
        return gathered(self.comm, _in_order(rows[:, :-1], present)).reshape(-1)[:n]

    def _check(self, rows: np.ndarray, error: BaseException | None) -> None:
        """Raise the errors of the ranks, if any has failed."""
        if rows[:, -1].any():
            self.tell(None, error)


def _in_order(rows: np.ndarray, present: Sequence[bool]) -> np.ndarray:
    """Return the sum of those rows that are present, in chains as `Divided.summed` adds parts up."""
    chains: Chains[np.ndarray] = Chains(operator.iadd)
    for row, counts in zip(rows, present, strict=True):
        if counts:
            chains.take(row)
    total = chains.total()
    assert total is not None
    return total
