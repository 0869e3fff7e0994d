"""`distribute`: a function of a batch, part by part on the workers of an executor."""

from __future__ import annotations

import functools
import sys
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import optree

from .. import blas
from ..backends.native.runtime.threads import get_num_threads
from ..budgets import Budget, bytes_of
from ..errors import BatchError, MinigradError, at_user_line
from ..graph import InAxes, PyTree
from ..locks import importing
from ..ops.cuts import Span
from ..progress import examples_bar, title_of
from ..ragged.batch import is_batch
from ..tracebacks import boundary
from ..tracing import tracing
from ..transforms.microbatch import Inherit, inherited
from ..transforms.trace import function_name
from .blocks import run_in_blocks
from .budgeted import Cuts, within
from .derived import Derived
from .divide import Divided, Dividing, PartProgram, Values
from .executors import Executor, Future, Renewable, in_process, is_executor, refuse_closed, submit, workers
from .files import InFile, sent
from .versions import SMALL, Versions
from .worker import Kept, Part, run

if TYPE_CHECKING:
    from .dask import Collections

Bar = AbstractContextManager[Callable[[int, int], None]]


@boundary
def distribute(f: Callable[..., PyTree], executor: Executor | Callable[[], Executor] | None = None,
               parts: int | None = None, in_axes: InAxes | Inherit = Inherit.IN_AXES, timeout: float | None = None,
               progress: bool | str = False, memory_per_worker: int | str | None = None) -> Callable[..., PyTree]:
    """Return `f` computed part by part on the workers of an executor.

    The result is that of the whole batch, for every number of parts. Sums are added up in the order of the parts, so
    the bits depend on `parts` alone: not on the number of workers, nor on the order in which they finish.

    Parameters
    ----------
    f : callable
        A function of a whole batch that `microbatch` takes: ``mean_loss(loss)``, its value and gradient, ``vmap(g)``,
        a mean of clipped gradients, a product with the Gauss-Newton matrix.
    executor : executor, or function that returns one
        Of `concurrent.futures`, threads or processes; a ``dask.distributed.Client``; an
        ``mpi4py.futures.MPIPoolExecutor``; joblib's loky. Workers need minigrad, not the module of `f`: they run
        its graph, sent once to each. A function, such as loky's ``get_reusable_executor``, is called again when a pool
        breaks, as one does whose process is killed, and the parts run once more. Without an executor, Dask's own
        scheduler runs the chunks of its collections.
    parts : int, optional
        The number of parts; by default that of the workers, or of the processors if the executor does not tell.
        Collections of Dask have one part per chunk.
    in_axes : int, None, or a pytree of them
        The batch axis of each argument, as in `microbatch`.
    timeout : float, optional
        The seconds to wait for a part. One that is late runs on in its thread or process, and parts that wait are
        cancelled. Collections of Dask that compute later do not keep it.
    progress : bool or str
        Whether to show a progress bar of the parts, with the examples a second, or its text.
    memory_per_worker : int or str, optional
        In place of `parts`: the memory of a part on its worker, in bytes or as ``"500 MB"``. A worker without work has
        some of its own, which comes on top. Parts are as long as the memory allows, and at least as many as workers.

    Returns
    -------
    callable
        Takes the arguments of `f`. Those that all parts share are sent to each worker once, and again when they have
        changed. An argument that is an array in a file (``np.load(path, mmap_mode="r")``) is not sent: workers open
        the file. Threads get no copies.

        Dask arrays, data frames (arrays of their columns) and bags of examples are arguments too: each chunk is
        computed where it lies. Results per example are then Dask arrays, and bags where they differ in size, which
        compute when they are asked for.

    Raises
    ------
    BatchError
        If `f` mixes examples; nothing is sent then. Or `parts` is below 1; or one example exceeds
        `memory_per_worker`: the error has both numbers.
    MinigradError
        If a worker breaks or a part is late: the error says which examples it had. The next call starts anew. Or
        `timeout` is not above 0, or `executor` starts no calls.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> loss = mg.mean_loss(lambda w, x: (w * x) ** 2, in_axes=(None, 0))
    >>> with ThreadPoolExecutor(2) as executor:
    ...     mg.distribute(mg.grad(loss), executor, in_axes=(None, 0))(2.0, np.array([1.0, 3.0, 1.0, 3.0]))
    np.float64(20.0)
    """
    _check(f"distribute({function_name(f)})", executor, parts, timeout, memory_per_worker)
    number: int | Budget | None = parts
    if memory_per_worker is not None:
        number = Budget(bytes_of(memory_per_worker, f"distribute({function_name(f)})"))
    dividing = Dividing(f, inherited(f, in_axes), "distribute")
    source, sending = None if executor is None else Renewable(executor), _Sending()
    collections = functools.cache(lambda: _collections(
        dividing, inherited(f, in_axes), timeout, functools.partial(_bar, progress)))

    @functools.wraps(f)
    def distributed(*args: PyTree, **kwargs: PyTree) -> PyTree:
        if tracing():
            raise MinigradError(at_user_line(
                f"distribute({function_name(f)}): it runs on an executor, and cannot be traced. Take the gradient "
                "inside: distribute(grad(f), executor)"))
        if _on_dask((args, kwargs)):
            executor = None if source is None else source.executor
            args, kwargs = collections().shared(args, kwargs, executor)
        if _on_dask((args, kwargs)):
            if number is not None:
                given = f"parts={parts}" if parts else f"memory_per_worker={memory_per_worker!r}"
                raise BatchError(at_user_line(f"distribute({dividing.name}): {given}, but the parts are the "
                                              "chunks of the arguments of Dask: rechunk or repartition these"))
            return collections()(args, kwargs, executor)
        if source is None:
            raise MinigradError(at_user_line(f"distribute({dividing.name}): no executor, and no argument is a "
                                             "collection of Dask: give an executor"))
        divided, leaves, sizes = dividing(args, kwargs)
        operands = divided.operands(leaves, sizes)
        results = _on_workers(divided, operands, source, number, timeout, sending, progress)
        return divided.finish(leaves, results, sizes)

    return boundary(distributed)


def _check(name: str, executor: object, parts: object, timeout: object, memory: object) -> None:
    """Refuse arguments that `distribute` does not take."""
    if parts is not None and (isinstance(parts, bool) or not isinstance(parts, int) or parts < 1):
        raise BatchError(at_user_line(f"{name}: parts must be a positive int, got {parts!r}"))
    if parts is not None and memory is not None:
        raise BatchError(at_user_line(f"{name}: give parts or memory_per_worker, not both"))
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise MinigradError(at_user_line(f"{name}: timeout must be a positive number of seconds, got {timeout!r}"))
    if executor is not None and not is_executor(executor) and not callable(executor):
        raise MinigradError(at_user_line(f"{name}: the executor must be one of concurrent.futures, a client of Dask, "
                                         f"or a function that returns one, got {executor!r}"))


def _on_dask(tree: PyTree) -> bool:
    """Return whether an argument is a collection of Dask."""
    if "dask" not in sys.modules:
        return False
    with importing:
        from .dask import is_collection

    return any(map(is_collection, optree.tree_leaves(tree, is_leaf=is_batch)))


def _collections(dividing: Dividing, in_axes: InAxes, timeout: float | None, bar: Callable[[int], Bar]) -> Collections:
    with importing:
        from .dask import Collections

    return Collections(dividing, in_axes, timeout, bar)


class _Sending:
    """The programs and the shared operands that workers have got."""

    def __init__(self) -> None:
        self._started: set[str] = set()
        self._versions = Versions()

    def tasks(self, divided: Divided, operands: Values, cuts: Cuts, number: int
              ) -> Callable[[int, bool], Part]:
        """Return the function from the number of a part to its task; a full one holds all that a worker may lack.

        Programs and values that are new go out with the first `number` parts, one for each worker. A worker without
        them says so, and gets the full task.
        """
        axes = divided.node.params["in_axes"]
        shared = [i for i, axis in enumerate(axes) if axis is None and operands[i].nbytes > SMALL]
        versions = {i: self._versions.of(divided.key, i, operands[i]) for i in shared}
        known = divided.key in self._started
        self._started.add(divided.key)
        call = uuid.uuid4().hex

        def task(k: int, full: bool) -> Part:
            first, examples = full or k < number, divided.examples(cuts.spans[k])
            out: list[np.ndarray | InFile | Derived | Kept] = []
            for i, x in enumerate(divided.sections(operands, cuts.spans[k])):
                if i in versions:
                    version, changed = versions[i]
                    out.append(Kept(i, version, x if full or (changed and first) else None))
                elif i in divided.derived:
                    out.append(divided.derived[i].of_part(examples, x))
                else:
                    out.append(sent(x))
            program = divided.body if full or (first and not known) else None
            return Part(divided.key, program, out, examples.start, cuts.block, call)

        return task


def _on_workers(divided: Divided, operands: Values, source: Renewable, parts: int | Budget | None,
                timeout: float | None, sending: _Sending, progress: bool | str) -> Values:
    """Return the results of all parts. Each part's results are added to these, and given up, as soon as they arrive."""
    again = source.again
    while True:
        executor = source.executor
        refuse_closed(executor, f"distribute({divided.graph.name})")
        number = workers(executor)
        cuts = _cuts(divided, operands, parts, number, in_process(executor))
        spans = cuts.spans
        start = _starter(divided, operands, cuts, executor, number, sending)
        futures: deque[Future[Values | None]] = deque()
        combining = divided.combining(spans)
        k = 0
        try:
            for k in range(len(spans)):
                futures.append(start(k, False))
            with _bar(progress, len(spans)) as show:
                for k, span in enumerate(spans):
                    values = futures[0].result(timeout)
                    if values is None:  # a worker that lacks the program or an operand, or has started anew
                        futures[0] = start(k, True)
                        values = futures[0].result(timeout)
                        assert values is not None
                    combining.take(values, span)
                    futures.popleft()
                    show(k + 1, divided.examples(span).stop)
            return combining.results()
        except BaseException as error:
            for future in futures:
                future.cancel()
            if isinstance(error, BrokenExecutor):
                source.renew(executor)
                if again:
                    again = False
                    continue
            if not isinstance(error, Exception):
                raise
            if type(error) is IndexError and not in_process(executor):
                error = _found_here(divided, operands, cuts, k, error)
            raise _of_part(divided, spans, k, error, timeout) from error


def _cuts(divided: Divided, operands: Values, parts: int | Budget | None, number: int, threads: bool) -> Cuts:
    """Return the parts for a number of workers."""
    if isinstance(parts, Budget) and divided.here.examples(operands):
        return within(divided, operands, number, parts.nbytes, threads)
    return Cuts(divided.spans(operands, parts if isinstance(parts, int) else number))


def _bar(progress: bool | str, parts: int) -> Bar:
    """Return a progress bar of the parts; one that shows nothing if none is asked for."""
    return examples_bar(title_of(progress, "parts"), parts) if progress else nullcontext(lambda parts, examples: None)


def _starter(divided: Divided, operands: Values, cuts: Cuts, executor: Executor, number: int,
             sending: _Sending) -> Callable[[int, bool], Future[Values | None]]:
    """Return how an executor starts a part: from its number, and whether the worker has nothing of it yet."""
    if in_process(executor):
        threads = max(1, get_num_threads() // number)
        return lambda k, full: submit(executor, _run_here, _OnThread(
            divided.here, divided.sections(operands, cuts.spans[k]), divided.examples(cuts.spans[k]).start, cuts.block,
            threads))
    task = sending.tasks(divided, operands, cuts, number)
    return lambda k, full: submit(executor, run, task(k, full))


class _OnThread(NamedTuple):
    """A part for a thread of this process; its fields are those of `Part`, and the threads that BLAS may use."""

    program: PartProgram
    operands: Values
    first: int
    block: int | None
    threads: int


def _run_here(task: _OnThread) -> Values:
    with blas.limited(task.threads):  # parts that run at the same time share the cores
        return run_in_blocks(task.program, task.operands, task.first, task.block)


def _found_here(divided: Divided, operands: Values, cuts: Cuts, k: int, error: IndexError) -> IndexError:
    """Return the error of a part as this process words it: with the example, which a worker's graph cannot name."""
    try:
        run_in_blocks(divided.here, divided.sections(operands, cuts.spans[k]), divided.examples(cuts.spans[k]).start,
                      cuts.block)
    except IndexError as own:
        return own
    return error


def _of_part(divided: Divided, spans: Sequence[Span], k: int, error: Exception, timeout: float | None
             ) -> Exception:
    """Return the error of a part, with its examples."""
    examples = divided.examples(spans[k])
    where = f"part {k} of {len(spans)} (examples {examples[0]} to {examples[-1]})"
    if isinstance(error, MinigradError) or type(error) is IndexError:  # of the user's program: with its line
        return type(error)(f"{error}\n{where}")
    what = f"no result in {timeout} s" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
    if isinstance(error, BrokenExecutor):
        what += (". A broken pool takes no more calls: give another one, or a function that returns one, which is "
                 "called again then: distribute(f, lambda: ProcessPoolExecutor(2))")
    return MinigradError(at_user_line(f"distribute({divided.graph.name}): {where}: {what}"))
