"""A part in blocks of rows that stay in the processor's cache, read from files one block at a time."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence

import numpy as np

from .. import blas
from ..backends import Ready
from ..backends.native.runtime.threads import get_num_threads
from ..ops.control import section_of
from ..ops.cuts import Span, along, spans_between
from ..symbolic import Dim
from .combining import Combining
from .divide import PartProgram, Values
from .files import InFile, Reader, sent

BLOCK = 1 << 21  # bytes of the rows of a block, at least: a call costs 20 µs, and a block stays in the cache
_SHARED = 16  # times the bytes of shared operands and of sums, which each block reads and adds up


def run_in_blocks(program: PartProgram, operands: Sequence[np.ndarray | InFile], first: int, most: int | None = None,
                  ready: Ready | None = None) -> Values:
    """Return the results of a part, whose examples begin with `first` of the whole batch.

    A block has at most `most` examples. Otherwise the number of blocks depends on the bytes of the operands, so the
    bits are those of any worker, for arrays in memory and in files. BLAS has as many threads as `set_num_threads`
    allows to programs: two workers that have all cores each would wait for each other. ``ready(k, array)`` is called
    when result `k` is complete: within the last block, if the program tells.
    """
    with blas.limited(get_num_threads()):
        return _in_blocks(program, operands, first, most, ready)


def _in_blocks(program: PartProgram, operands: Sequence[np.ndarray | InFile], first: int, most: int | None,
               ready: Ready | None) -> Values:
    """Return the results of a part, in as many blocks as `_blocks` says."""
    operands = [sent(x) if isinstance(x, np.ndarray) else x for x in operands]
    total = program.examples(operands)
    number = min(total, max(_blocks(program, operands), 1 if most is None else -(-total // most)))
    if number < 2:
        return program.run([_opened(x) for x in operands], first, ready)
    dim, *packed = program.sizes
    counts = [_opened(x) for x in operands[:len(packed)]]
    spans = spans_between([total * k // number for k in range(number + 1)],
                          {"dim": dim, "packed": [(n, n) for n in packed]}, counts)
    combining = Combining(program.entry.graph.outputs, program.out_axes, spans)
    with contextlib.ExitStack() as files:
        sources = [files.enter_context(contextlib.closing(Reader(x))) if isinstance(x, InFile) and axis == 0
                   else _opened(x) for x, axis in zip(operands, program.in_axes, strict=True)]
        for span in spans:
            run = functools.partial(program.run, _sections(program, sources, span), first + section_of(span, dim).start)
            if ready is not None and span is spans[-1]:
                combining.take_last(run, span, ready)
            else:
                combining.take(run(), span)
    return combining.results()


def _opened(x: np.ndarray | InFile) -> np.ndarray:
    return x.open() if isinstance(x, InFile) else x


def _blocks(program: PartProgram, operands: Sequence[np.ndarray | InFile]) -> int:
    """Return the number of blocks of a part."""
    outputs = program.entry.graph.outputs
    rows = sum(x.nbytes for x, axis in zip(operands, program.in_axes, strict=True) if axis is not None)
    shared = sum(x.nbytes for x, axis in zip(operands, program.in_axes, strict=True) if axis is None)
    sums = sum(o.dtype.itemsize * math.prod(n for n in o.shape if isinstance(n, int))
               for o, axis in zip(outputs, program.out_axes, strict=True) if axis is None)
    return rows // rows_of_block(shared + sums)


def rows_of_block(shared: int) -> int:
    """Return the least bytes of the rows of a block, from those that each block reads and adds up besides."""
    return max(BLOCK, _SHARED * shared)


def _sections(program: PartProgram, sources: Sequence[np.ndarray | Reader], span: Span) -> Values:
    """Return the operands of a block."""
    out: Values = []
    for x, axis, n in zip(sources, program.in_axes, program.entry.graph.inputs, strict=False):
        if axis is None or not isinstance(size := n.shape[axis], Dim):
            assert isinstance(x, np.ndarray)
            out.append(x)
        elif isinstance(x, Reader):
            out.append(x[section_of(span, size)])
        else:
            out.append(x[along(axis, section_of(span, size))])
    return out
