"""Cuts of BLAS and generated code on this machine: both compute a few products of each kind, in turns.

The products are spread evenly over the logarithms of rows, terms and columns. Cuts are those that make the geometric
mean of their times least; the usual ones stay where others win little.
"""

from __future__ import annotations

import ctypes
import datetime
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.random import default_rng

from .... import blas
from ... import code_cache
from ..codegen.strides import View
from ..runtime import threads
from ..runtime.cache import object_codes
from . import gemm, gemm_record
from .gemm_choice import KINDS, NARROW, NEVER, Choice, Cuts, Gain, Kind, uniform
from .gemm_plan import MATRIX, METHOD, Resources, gemm_args, shared_by_blas
from .gemm_record import Record

PRODUCTS = 36  # of each kind
_LARGEST_SIDE, _LARGEST_WORK, _LARGEST_MATRIX = 1 << 11, 1 << 27, 1 << 20
_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)  # of the most even sequence of points of a cube
_ROUNDS, _TURN = 3, 5e-5  # turns of each method, and the least seconds of one
_ADVANTAGE = math.log(1.02)  # of new cuts over the usual ones, at least
_BOUND = math.log(1.5)  # of the advantage of one product
_METHODS = uniform(Cuts(0, NEVER)), uniform(Cuts(NEVER, NEVER))  # generated code, and BLAS


class Timing(NamedTuple):
    """The least seconds of both methods for one product, and whether it has enough pieces for BLAS."""

    kind: Kind
    work: int
    generated: float
    blas: float
    shared: bool


def fill() -> None:
    """Keep the record of a measurement, unless there is one, no BLAS, or no place for it."""
    where = code_cache.trusted()
    if where is None or blas.find()[0] is None or code_cache.unwritable(where) or gemm_record.read() is not None:
        return
    code_cache.keep_record(where, gemm_record.name(), gemm_record.text(measure()))


def measure() -> Record:
    """Return the record of a measurement on all threads."""
    usual = gemm.resources(threads.get_num_threads())
    choice, gains = fitted(timings(steps(), usual, sizes()), usual.choice)
    return Record(choice, gains, usual.threads, datetime.date.today().isoformat())


def sizes(count: int = PRODUCTS) -> list[tuple[int, int, int]]:
    """Return the rows, terms and columns of as many narrow products as broad ones."""
    points = ([int(2 * (_LARGEST_SIDE / 2) ** (i * step % 1)) for step in _STEPS] for i in itertools.count(1))
    fitting = [(m, k, n) for m, k, n in itertools.islice(points, 8 * count)
               if m * k * n <= _LARGEST_WORK and max(m * k, k * n, m * n) <= _LARGEST_MATRIX]
    return [size for narrow in (False, True)
            for size in itertools.islice((s for s in fitting if _is_narrow(s) == narrow), count)]


def _is_narrow(sizes: tuple[int, int, int]) -> bool:
    return min(sizes[0], sizes[2]) < NARROW


def steps() -> dict[int, Callable[[int, int], None]]:
    """Return the compiled step of this machine for elements of 4 and of 8 bytes."""
    found: dict[int, Callable[[int, int], None]] = {}
    for dtype in map(np.dtype, ("float32", "float64")):
        if not gemm.loaded(dtype):
            gemm.add(dtype, [code for _, code in object_codes(gemm.code_requests(dtype))])
        found[dtype.itemsize] = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(gemm.address(dtype))
    return found


def timings(steps: Mapping[int, Callable[[int, int], None]], resources: Resources,
            products: Iterable[tuple[int, int, int]]) -> list[Timing]:
    """Return the times of products.

    Parameters
    ----------
    steps : mapping of int to callable
        The compiled step for elements of so many bytes.
    resources : Resources
        The BLAS and the threads.
    products : iterable of (int, int, int)
        Rows, terms and columns.
    """
    values = default_rng(0).normal(size=_LARGEST_MATRIX)
    memory = {size: [values.astype(f"f{size}") for _ in range(3)] for size in steps}
    return [_timing(kind, product, memory[kind.itemsize], steps[kind.itemsize], resources)
            for product in products for kind in KINDS if kind.narrow == _is_narrow(product) and kind.itemsize in steps]


def _timing(kind: Kind, sizes: tuple[int, int, int], memory: list[np.ndarray],
            step: Callable[[int, int], None], resources: Resources) -> Timing:
    m, k, n = sizes
    x = _view(0, m, k, kind.left_transposed, kind.itemsize)
    y = _view(1, k, n, kind.right_transposed, kind.itemsize)
    out = _view(2, m, n, False, kind.itemsize)
    bases = np.array([array.ctypes.data for array in memory], np.uintp)

    def args(choice: Choice) -> list[int]:
        return gemm_args("ik,kj->ij", x, y, out, memory[0].dtype, resources._replace(choice=choice))

    calls = [_call(step, args(choice), bases) for choice in _METHODS]
    generated, by_blas = _race(calls)
    return Timing(kind, m * k * n, generated, by_blas, args(uniform(Cuts(0, 0)))[METHOD] == MATRIX)


def _view(base: int, rows: int, columns: int, transposed: bool, itemsize: int) -> View:
    strides = (itemsize, rows * itemsize) if transposed else (columns * itemsize, itemsize)
    return View(base, 0, (rows, columns), strides)


def _call(step: Callable[[int, int], None], args: list[int], bases: np.ndarray) -> Callable[[], None]:
    """Return the call of a step as a program calls it."""
    block = np.array(args)
    addresses = block.ctypes.data, bases.ctypes.data

    def call(_keep: object = (block, bases)) -> None:
        step(*addresses)

    def alone() -> None:
        with blas.limited(1):
            call()

    return alone if shared_by_blas(args) else call


def _race(calls: list[Callable[[], None]]) -> list[float]:
    """Return the least seconds of one call of each."""
    best = [math.inf] * len(calls)
    for turn in range(_ROUNDS + 1):
        for i in range(len(calls)):
            start, count = time.perf_counter(), 0
            while (took := time.perf_counter() - start) < _TURN or not count:
                calls[i]()
                count += 1
            if turn:  # the first warms up
                best[i] = min(best[i], took / count)
    return best


def fitted(found: Iterable[Timing], usual: Choice) -> tuple[Choice, list[Gain]]:
    """Return the cuts that the times of products suggest in place of the usual ones, and the gain of each."""
    by_kind = {kind: sorted((t for t in found if t.kind == kind), key=lambda t: t.work) for kind in KINDS}
    cuts = {kind: _cuts(some, usual.cuts[kind]) for kind, some in by_kind.items()}
    return Choice(cuts), [_gain(some, cuts[kind]) for kind, some in by_kind.items()]


def _cuts(some: list[Timing], usual: Cuts) -> Cuts:
    count = len(some)
    heads = [0.0, *itertools.accumulate(_loss(t) for t in some)]
    tails = [0.0, *itertools.accumulate(_loss(t) * t.shared for t in reversed(some))][::-1]
    ends = ((i, j) for i in range(count + 1) for j in range(count, i - 1, -1))
    i, j = min(ends, key=lambda end: heads[end[0]] + tails[end[1]])
    best = Cuts(some[i - 1].work if i else 0, some[j].work if j < count else NEVER)
    worth = count * _ADVANTAGE
    return best if _lost(some, usual) - _lost(some, best) > worth else usual


def _lost(some: list[Timing], cuts: Cuts) -> float:
    """Return the sum of the losses of products that BLAS computes."""
    return sum(_loss(t) for t in some if t.work <= cuts.small or (t.shared and t.work >= cuts.large))


def _loss(t: Timing) -> float:
    """Return the logarithm of BLAS's time over generated code's, bounded: another process may disturb one of them."""
    return min(max(math.log(t.blas / t.generated), -_BOUND), _BOUND)


def _gain(some: list[Timing], cuts: Cuts) -> Gain:
    parts: tuple[list[float], ...] = ([], [], [])
    for t in some:
        parts[(t.work > cuts.small) + (t.work >= cuts.large)].append(math.log(t.generated / t.blas))
    return Gain(*(math.exp(sum(part) / len(part)) if part else None for part in parts))
