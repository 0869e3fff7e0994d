"""Parts, and blocks of their rows, within the memory of a worker."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..argument_sizes import argument_sizes
from ..backends.arena import SPARE
from ..budgets import longest
from ..graph import Node
from ..ops.cuts import Limit, Span, by_memory, rows_before, spans_between, symbols_of_pass
from ..symbolic import Symbol, size_of, value
from .blocks import rows_of_block
from .divide import Divided, Values
from .files import InFile, sent

Sizes = Mapping[Symbol, int]
MAPPED = 1 << 25  # bytes from which glibc maps a buffer by itself, so that it grows in place


class Cuts(NamedTuple):
    """The parts of a batch, and the most examples of a block of a part; None: as many as stay in the cache."""

    spans: list[Span]
    block: int | None = None


def within(divided: Divided, operands: Values, number: int, nbytes: int, in_process: bool) -> Cuts:
    """Return parts that need at most `nbytes` on a worker, at least `number` of them if there are as many examples.

    A worker holds the message with the rows of a part and the arrays from it, the shared operands, the memory of a
    block's program, and the rows of results with their message. Threads of this process have no
    messages; rows in files are read block by block.
    """
    need, p = _Need(divided, operands, in_process), divided.node.params
    total = divided.here.examples(operands)
    room = nbytes - need.shared
    block = longest(need.rows_of_some, rows_of_block(need.shared + need.sums), total) or 1
    if need.block_of_some(block) > room // 2:  # the other half is for the rows
        block = longest(need.block_of_some, room // 2, total) or 1
    most = -(-total // number)

    def cost(sizes: Sizes) -> int:
        if sizes[need.examples] > most:
            return nbytes + 1
        return need.of_part(sizes, min(block, sizes[need.examples]))

    counts = operands[:len(p["packed"])]
    edges = by_memory(total, p, counts, Limit(nbytes, nbytes, 0), cost, f"{divided.caller}({divided.graph.name})",
                      "a part of")
    return Cuts(spans_between(edges, p, counts), block)


class _Need:
    """The memory that parts and blocks need, by their sizes.

    Attributes
    ----------
    examples : Symbol
        The number of examples of a part.
    shared, sums : int
        The bytes of shared operands that are sent, and of the sums over all examples.
    """

    def __init__(self, divided: Divided, operands: Values, in_process: bool):
        program, p = divided.here, divided.node.params
        self._executable = program.entry.program
        shapes = [x.shape for x in operands]
        self._whole = argument_sizes(program.entry.graph, [*shapes, *((int(operands[k].sum()),)
                                                                      for k in program.counts)])
        self._symbols = symbols_of_pass(p)
        self._before = [np.arange(program.examples(operands) + 1), *rows_before(operands[:len(p["packed"])])]
        self.examples = self._symbols[0]
        inputs = list(zip(operands, program.in_axes, p["graph"].inputs, strict=True))
        rows = {i: (n, isinstance(sent(x), InFile) and axis == 0)
                for i, (x, axis, n) in enumerate(inputs) if axis is not None}
        here: Container[int] = rows if in_process else divided.derived  # these are not sent
        self._rows = self._bytes([n for n, _ in rows.values()])
        self._read = self._bytes([n for n, in_file in rows.values() if in_file])
        self._sent = self._bytes([n for i, (n, in_file) in rows.items() if not in_file and i not in here])
        self._derived = self._bytes([] if in_process else [rows[i][0] for i in divided.derived])
        self.shared = 0 if in_process else sum(x.nbytes for x, axis, _ in inputs if axis is None)
        outputs = list(zip(p["graph"].outputs, program.out_axes, strict=True))
        self._results = self._bytes([o for o, axis in outputs if axis is not None])
        self.sums = self._bytes([o for o, axis in outputs if axis is None])({})
        self._messages = not in_process
        # A layout that has to grow, for blocks of ever new sizes, grows by more; half of that beyond the largest block.
        self._spare = 1 + 1 / (2 * SPARE) if p["packed"] else 1

    def _bytes(self, nodes: Sequence[Node]) -> Callable[[Sizes], int]:
        """Return the function from sizes to the bytes of some values."""
        return lambda sizes: sum(value(size_of(n.shape), {**self._whole, **sizes}) * n.dtype.itemsize for n in nodes)

    def _some(self, number: int) -> Sizes:
        """Return sizes that no `number` consecutive examples exceed."""
        return {s: int((before[number:] - before[:len(before) - number]).max())
                for s, before in zip(self._symbols, self._before, strict=True)}

    def rows_of_some(self, number: int) -> int:
        """Return the bytes of the rows of so many examples."""
        return self._rows(self._some(number))

    def block_of_some(self, number: int) -> int:
        """Return the bytes that a block of so many examples needs."""
        return self._block(self._some(number))

    def _block(self, sizes: Sizes) -> int:
        return int(self._executable.memory({**self._whole, **sizes}) * self._spare) + self._read(sizes)

    def of_part(self, sizes: Sizes, block: int) -> int:
        """Return the bytes that a part of these sizes needs, in blocks of at most `block` examples."""
        own, results = self._sent(sizes) + self.shared, self._results(sizes)
        derived = self._derived(sizes)
        whole = sizes[self.examples] <= block  # in one block, whose results are those of the part
        largest = sizes if whole else self._some(block)
        running = own + derived + self._block(largest) + (0 if whole else results + self.sums)
        if not self._messages:
            return running
        # A pickle grows by a half at a time.
        kept = int(self._executable.workspace_bytes({**self._whole, **largest}) * self._spare)
        return max(running, kept + 2 * own + _outgrown(own), kept + own + results * 5 // 2)


def _outgrown(message: int) -> int:
    """Return the bytes that the allocator keeps of buffers which a message outgrew while it was received."""
    return message * 3 // 5 if message < MAPPED else 0  # as measured, 0.4 to 0.8 of it
