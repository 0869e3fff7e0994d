"""`all_reduce`: a function of the rows of all ranks of an MPI communicator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from hashlib import blake2b
from types import TracebackType
from typing import Protocol

import numpy as np

from ..errors import BatchError, MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..tracebacks import boundary
from ..tracing import tracing
from ..transforms.microbatch import Inherit, inherited
from ..transforms.trace import function_name
from .blocks import run_in_blocks
from .divide import Divided, Dividing, Values


class Communicator(Protocol):
    """A group of processes, as of mpi4py."""

    def Get_rank(self) -> int:
        """Return the number of this process."""

    def Get_size(self) -> int:
        """Return the number of processes."""

    def allgather(self, sendobj: PyTree) -> list[PyTree]:
        """Return the objects of all ranks, in their order."""


@boundary
def all_reduce(f: Callable[..., PyTree], comm: Communicator, in_axes: InAxes | Inherit = Inherit.IN_AXES
               ) -> Callable[..., PyTree]:
    """Return `f` computed on the rows of all ranks together; each rank calls it with its own rows.

    Every rank gets the result of the whole batch, the mean over all examples; ranks may have any numbers of them, and
    none. Sums are added up in the order of the ranks, as `distribute` adds those of its parts, so that all
    ranks have the same bits.

    Parameters
    ----------
    f : callable
        A function of a whole batch that `microbatch` takes, whose results are sums or means over it:
        ``mean_loss(loss)``, its value and gradient.
    comm : communicator
        Of mpi4py, such as ``MPI.COMM_WORLD``.
    in_axes : int, None, or a pytree of them
        The batch axis of each argument, as in `microbatch`.

    Returns
    -------
    callable
        Takes the arguments of `f`, with the rank's rows. All ranks call it together.

    Raises
    ------
    BatchError
        If `f` mixes examples or returns one row per example, or no rank has an example.
    MinigradError
        If the ranks' shared arguments differ, or a rank raised an error: on every rank, naming the ranks.

    Examples
    --------
    >>> class Alone:
    ...     def Get_rank(self): return 0
    ...     def Get_size(self): return 1
    ...     def allgather(self, x): return [x]
    >>> loss = mg.mean_loss(lambda w, x: (w * x) ** 2, in_axes=(None, 0))
    >>> mg.all_reduce(loss, Alone(), in_axes=(None, 0))(2.0, np.array([1.0, 3.0]))
    np.float64(20.0)
    """
    dividing = Dividing(f, inherited(f, in_axes), "all_reduce")
    name = function_name(f)
    compared: set[str] = set()

    @functools.wraps(f)
    def reduced(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if tracing():
            raise MinigradError(at_user_line(f"all_reduce({name}): it communicates, and cannot be traced. Take the "
                                             "gradient inside: all_reduce(grad(f), comm)"))
        call = _OwnCall(comm, name)
        with call:
            divided, leaves, sizes = dividing(args, kwargs)
            if any(axis is not None for axis in divided.node.params["out_axes"]):
                raise BatchError(at_user_line(f"all_reduce({name}): a result, or a maximum over the batch, needs the "
                                              "rows of all ranks; it returns sums and means"))
            rows = tuple(sizes[whole] for _, whole in divided.symbols)
            known = divided.fingerprint in compared
            call.message = rows, divided.fingerprint, [] if known else _fingerprints(divided, leaves)
        told = call.received
        _compare(name, divided, told)
        compared.add(divided.fingerprint)
        totals = [sum(column) for column in zip(*(numbers for numbers, _, _ in told), strict=True)]
        if not totals[0]:
            raise BatchError(at_user_line(f"all_reduce({name}): no rank has an example"))
        whole = {**sizes, **{symbol: n for (_, symbol), n in zip(divided.symbols, totals, strict=True)}}
        call = _OwnCall(comm, name)
        with call:
            first = sum(numbers[0] for numbers, _, _ in told[:comm.Get_rank()])
            if rows[0]:
                call.message = run_in_blocks(divided.here, divided.operands(leaves, sizes, whole), first)
        terms = [term for term in call.received if term is not None]
        return divided.finish(leaves, divided.summed(terms), whole)

    return boundary(reduced)


class _OwnCall:
    """A rank's own work, whose message all ranks get at its end; an error is raised on all of them.

    Without that, ranks would wait for one that has raised, or that Ctrl-C has stopped.
    """

    message: PyTree = None
    received: list[PyTree]

    def __init__(self, comm: Communicator, name: str):
        self._comm, self._name = comm, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        told = self._comm.allgather((None if error is None else f"{type(error).__name__}: {error}", self.message))
        failed = {k: text for k, (text, _) in enumerate(told) if text is not None}
        if error is None and failed:
            first = min(failed)
            raise MinigradError(at_user_line(
                f"all_reduce({self._name}): rank{'s' * (len(failed) > 1)} {', '.join(map(str, failed))} raised an "
                f"error; rank {first}: {failed[first]}"))
        self.received = [message for _, message in told]


def _fingerprints(divided: Divided, leaves: Values) -> list[str]:
    """Return a hash of each argument that all ranks share, and an empty text for others."""
    axes = divided.node.params["in_axes"]
    shared = {*divided.shared.reads, *divided.after.reads, *(k for i, k in divided.own.items() if axes[i] is None)}
    shared -= {k for i, k in divided.own.items() if axes[i] is not None}
    return [blake2b(np.ascontiguousarray(x).tobytes()).hexdigest()[:16] if k in shared else ""
            for k, x in enumerate(leaves)]


def _compare(name: str, divided: Divided, told: list[tuple[tuple[int, ...], str, list[str]]]) -> None:
    """Refuse ranks that run different programs, or share an argument that differs."""
    for rank, (_, key, prints) in enumerate(told):
        if key != told[0][1]:
            raise MinigradError(at_user_line(
                f"all_reduce({name}): rank {rank} runs another program than rank 0: the structure, dtypes or shapes of "
                "its arguments differ, or the function"))
        for k, (a, b) in enumerate(zip(prints, told[0][2], strict=False)):
            if a != b:
                raise MinigradError(at_user_line(f"all_reduce({name}): {divided.graph.names[k]} differs between rank 0 "
                                                 f"and rank {rank}; all ranks must share it"))
