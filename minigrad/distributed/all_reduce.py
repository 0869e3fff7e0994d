"""`all_reduce`: a function of the rows of all ranks of an MPI communicator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from ..errors import BatchError, MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..symbolic import Symbol
from ..tracebacks import boundary
from ..tracing import tracing
from ..transforms.microbatch import Inherit, inherited
from ..transforms.trace import function_name
from .blocks import run_in_blocks
from .divide import Divided, Dividing, Values
from .ranks import Communicator, Early, Ranks, gathered, is_nonblocking

_HEADER = 8  # numbers of the message before each call
_LARGE = 1 << 16  # bytes of a result that is worth a message of its own


@boundary
def all_reduce(f: Callable[..., PyTree], comm: Communicator, in_axes: InAxes | Inherit = Inherit.IN_AXES
               ) -> Callable[..., PyTree]:
    """Return `f` computed on the rows of all ranks together; each rank calls it with its own rows.

    Every rank gets the result of the whole batch, the mean over all examples; ranks may have any numbers of them, and
    none. Sums are added up in the order of the ranks, as `distribute` adds those of its parts, so that all
    ranks have the same bits. A communicator with ``Ialltoall`` sends large sums when they are written, while the rank
    computes others.

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
    ranks = Ranks(comm, name)
    agreement = _Agreement(ranks, name)

    @functools.wraps(f)
    def reduced(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if tracing():
            raise MinigradError(at_user_line(f"all_reduce({name}): it communicates, and cannot be traced. Take the "
                                             "gradient inside: all_reduce(grad(f), comm)"))
        call: _Call | None = None
        failure: BaseException | None = None
        try:
            divided, leaves, sizes = dividing(args, kwargs)
            _check_sums(divided, name)
            order = divided.here.ready_order if is_nonblocking(comm) and comm.Get_size() > 1 else []
            call = _Call(divided, leaves, sizes, order)
        except BaseException as error:  # raised again when all ranks know
            failure = error
        told = agreement.rows(call, failure)
        assert call is not None
        totals = [sum(column) for column in zip(*told, strict=True)]
        if not totals[0]:
            raise BatchError(at_user_line(f"all_reduce({name}): no rank has an example"))
        whole = {**sizes, **{symbol: n for (_, symbol), n in zip(divided.symbols, totals, strict=True)}}
        values, rank = divided.zeros(), comm.Get_rank()
        early = Early(comm, agreement.order(divided, values))
        try:
            if told[rank][0]:
                first = sum(numbers[0] for numbers in told[:rank])
                operands = divided.operands(leaves, sizes, whole)
                values = run_in_blocks(divided.here, operands, first, ready=early.ready)
        except BaseException as error:  # raised again when all ranks know
            failure = error
        return divided.finish(leaves, ranks.sums(values, [n[0] > 0 for n in told], failure, early), whole)

    return boundary(reduced)


class _Call(NamedTuple):
    """The program of a call, the leaves of its arguments, the sizes, and the results in the order of their writing."""

    divided: Divided
    leaves: Values
    sizes: dict[Symbol, int]
    order: list[int]


class _Agreement:
    """What ranks compare before a call: programs and shared arguments once, and the numbers of their rows."""

    def __init__(self, ranks: Ranks, name: str):
        self._ranks, self._name = ranks, name
        self._compared: set[str] = set()
        self._orders: dict[str, list[int]] = {}

    def rows(self, call: _Call | None, error: BaseException | None) -> list[list[int]]:
        """Return the numbers of examples and of ragged rows of all ranks, or raise the error of one.

        They are numbers in a message of fixed length, where no rank has more to say.
        """
        header = np.zeros(_HEADER, np.int64)
        rows = [] if call is None else [call.sizes[whole] for _, whole in call.divided.symbols]
        known = error is None and call is not None and call.divided.fingerprint in self._compared
        if known and call is not None and len(rows) < _HEADER:
            header[0] = int(call.divided.fingerprint[:15], 16)
            header[1:1 + len(rows)] = rows
        headers = gathered(self._ranks.comm, header)
        if headers[0, 0] and (headers[:, 0] == headers[0, 0]).all():
            return [row[1:1 + len(rows)].tolist() for row in headers]
        message = None if call is None or error is not None else (
            rows, call.divided.fingerprint, _fingerprints(call.divided, call.leaves), call.order)
        told = self._ranks.tell(message, error)
        assert call is not None
        _compare(self._name, call.divided, told)
        self._compared.add(call.divided.fingerprint)
        orders = [order for _, _, _, order in told]
        self._orders[call.divided.fingerprint] = orders[0] if all(order == orders[0] for order in orders) else []
        return [numbers for numbers, _, _, _ in told]

    def order(self, divided: Divided, values: Values) -> list[int]:
        """Return the large results, in the order in which all ranks write them."""
        return [k for k in self._orders[divided.fingerprint] if values[k].nbytes >= _LARGE]


def _check_sums(divided: Divided, name: str) -> None:
    """Refuse results that need the rows of all ranks."""
    if any(axis is not None for axis in divided.node.params["out_axes"]):
        raise BatchError(at_user_line(f"all_reduce({name}): a result, or a maximum over the batch, needs the rows of "
                                      "all ranks; it returns sums and means"))


def _fingerprints(divided: Divided, leaves: Values) -> list[str]:
    """Return a hash of each argument that all ranks share, and an empty text for others."""
    axes = divided.node.params["in_axes"]
    shared = {*divided.shared.reads, *divided.after.reads, *(k for i, k in divided.own.items() if axes[i] is None)}
    shared -= {k for i, k in divided.own.items() if axes[i] is not None}
    return [blake2b(np.ascontiguousarray(x).tobytes()).hexdigest()[:16] if k in shared else ""
            for k, x in enumerate(leaves)]


def _compare(name: str, divided: Divided, told: list[tuple[list[int], str, list[str], list[int]]]) -> None:
    """Refuse ranks that run different programs, or share an argument that differs."""
    for rank, (_, key, prints, _) in enumerate(told):
        if key != told[0][1]:
            raise MinigradError(at_user_line(
                f"all_reduce({name}): rank {rank} runs another program than rank 0: the structure, dtypes or shapes of "
                "its arguments differ, or the function"))
        for k, (a, b) in enumerate(zip(prints, told[0][2], strict=False)):
            if a != b:
                raise MinigradError(at_user_line(f"all_reduce({name}): {divided.graph.names[k]} differs between rank 0 "
                                                 f"and rank {rank}; all ranks must share it"))
