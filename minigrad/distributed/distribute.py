"""`distribute`: a function of a batch, part by part on the workers of an executor."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..errors import BatchError, MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..tracebacks import boundary
from ..tracing import tracing
from ..transforms.microbatch import Inherit, inherited
from ..transforms.trace import function_name
from .divide import Divided, Dividing, Values
from .worker import Part, enter, run, sent


class Future(Protocol):
    """A result that is under way, as of `concurrent.futures`."""

    def result(self, timeout: float | None = None) -> Values | None:
        """Wait for the result."""

    def cancel(self) -> object:
        """Give the result up."""


class Executor(Protocol):
    """Anything with the interface of `concurrent.futures.Executor`."""

    def submit(self, fn: Callable[[Part], Values | None], /, task: Part) -> Future:
        """Start a call."""


@runtime_checkable
class DaskClient(Protocol):
    """The executor of Dask."""

    def submit(self, fn: Callable[[Part], Values | None], /, task: Part, *, pure: bool) -> Future:
        """Start a call; a pure one is taken for another with the same arguments."""

    def nthreads(self) -> dict[str, int]:
        """Return the number of threads of each worker."""


@boundary
def distribute(f: Callable[..., PyTree], executor: Executor, parts: int | None = None,
               in_axes: InAxes | Inherit = Inherit.IN_AXES, timeout: float | None = None) -> Callable[..., PyTree]:
    """Return `f` computed part by part on the workers of an executor.

    The result is that of the whole batch, for every number of parts. Sums are added up in the order of the parts, so
    the bits depend on `parts` alone: not on the number of workers, nor on the order in which they finish.

    Parameters
    ----------
    f : callable
        A function of a whole batch that `microbatch` takes: ``mean_loss(loss)``, its value and gradient, ``vmap(g)``,
        a mean of clipped gradients, a product with the Gauss-Newton matrix.
    executor : executor
        Of `concurrent.futures`, threads or processes; a ``dask.distributed.Client``; an
        ``mpi4py.futures.MPIPoolExecutor``; joblib's loky. Workers need minigrad, not the module of `f`: they run
        its graph, sent once to each.
    parts : int, optional
        The number of parts; by default that of the workers, or of the processors if the executor does not tell.
    in_axes : int, None, or a pytree of them
        The batch axis of each argument, as in `microbatch`.
    timeout : float, optional
        The seconds to wait for a part.

    Returns
    -------
    callable
        Takes the arguments of `f`. An argument that is an array in a file (``np.load(path, mmap_mode="r")``) is not
        sent: workers open the file.

    Raises
    ------
    BatchError
        If `f` mixes examples; nothing is sent then. Or `parts` is below 1.
    MinigradError
        If a worker breaks or a part is late: the error says which examples it had. The next call starts anew.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> loss = mg.mean_loss(lambda w, x: (w * x) ** 2, in_axes=(None, 0))
    >>> with ThreadPoolExecutor(2) as executor:
    ...     mg.distribute(mg.grad(loss), executor, in_axes=(None, 0))(2.0, np.array([1.0, 3.0, 1.0, 3.0]))
    np.float64(20.0)
    """
    if parts is not None and (isinstance(parts, bool) or not isinstance(parts, int) or parts < 1):
        raise BatchError(at_user_line(f"distribute({function_name(f)}): parts must be a positive int, got {parts!r}"))
    dividing = Dividing(f, inherited(f, in_axes), "distribute")
    started: set[str] = set()

    @functools.wraps(f)
    def distributed(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if tracing():
            raise MinigradError(at_user_line(
                f"distribute({function_name(f)}): it runs on an executor, and cannot be traced. Take the gradient "
                "inside: distribute(grad(f), executor)"))
        divided, leaves, sizes = dividing(args, kwargs)
        operands = divided.operands(leaves, sizes)
        results = _on_workers(divided, operands, executor, parts or _workers(executor), timeout, started)
        return divided.finish(leaves, divided.combined(results), sizes)

    return boundary(distributed)


def _submission(executor: Executor) -> Callable[[Callable[[Part], Values | None], Part], Future]:
    """Return how an executor starts a call.

    Dask takes calls with the same arguments for one: it would cancel a call together with an earlier one, and miss
    that a file has changed.
    """
    return functools.partial(executor.submit, pure=False) if isinstance(executor, DaskClient) else executor.submit


def _workers(executor: Executor) -> int:
    """Return the number of workers of an executor."""
    if isinstance(executor, DaskClient):
        return sum(executor.nthreads().values())
    for name in ("_max_workers", "num_workers"):
        if isinstance(n := getattr(executor, name, None), int):
            return n
    return os.cpu_count() or 1


def _on_workers(divided: Divided, operands: Values, executor: Executor, number: int, timeout: float | None,
                started: set[str]) -> list[Values]:
    """Return the results of the parts, in their order."""
    spans = divided.spans(operands, number)
    dim = divided.node.params["dim"]
    program = None if divided.key in started else divided.body
    enter(divided.key, divided.here)  # for workers that are threads of this process

    def task(k: int, program: bytes | None) -> Part:
        sections = [sent(x) for x in divided.sections(operands, spans[k])]
        return Part(divided.key, program, sections, spans[k][0][dim.symbol])

    submit = _submission(executor)
    futures: list[Future] = []
    k = 0
    try:
        for k in range(len(spans)):
            futures.append(submit(run, task(k, program)))
        results: list[Values] = []
        for k, future in enumerate(futures):
            values = future.result(timeout)
            if values is None:  # a worker that has not had the program, or has started anew
                values = submit(run, task(k, divided.body)).result(timeout)
                assert values is not None
            results.append(values)
    except BaseException as error:
        for future in futures:
            future.cancel()
        if not isinstance(error, Exception):
            raise
        begin, end = (edge[dim.symbol] for edge in spans[k])
        where = f"part {k} of {len(spans)} (examples {begin} to {end - 1})"
        if isinstance(error, MinigradError) or type(error) is IndexError:  # of the user's program: with its line
            raise type(error)(f"{error}\n{where}") from error
        what = f"no result in {timeout} s" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        raise MinigradError(at_user_line(f"distribute({divided.graph.name}): {where}: {what}")) from error
    started.add(divided.key)
    return results
