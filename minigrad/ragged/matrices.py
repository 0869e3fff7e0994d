"""Batching rule of matrices and transforms of ragged size: one example after the other.

LAPACK takes matrices of one size, and a Fourier transform signals of one length. Each pass of the loop puts the
matrices of an example together, and takes its results apart into packed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import ArrayType, Graph, Node, full
from ..ops.broadcast import broadcast_along
from ..ops.constants import iota, size_scalar
from ..ops.control import chunked, parts
from ..ops.elementwise import floor_divide, mod
from ..ops.index import gather
from ..ops.shape import transpose
from ..primitive import broadcast_leading, move_axis, placeholder
from ..symbolic import Dim, Shape
from .rows import Domain
from .rules import EACH, Batching, Inputs

_INT = np.dtype(np.int64)


class _Example:
    """One example within a pass: its sizes, by those of the batch.

    Attributes
    ----------
    one : Dim
        The number of examples of the pass.
    rows : dict of Domain to Dim
        The rows of the example along each domain.
    """

    def __init__(self, b: Batching, types: Sequence[ArrayType]):
        self._b, self.one = b, Dim.new("example")
        domains = [b.rows.domain(t.shape) for t in types]
        each: list[Domain] = [(n,) for domain in domains for n in domain]
        self.rows = {d: Dim.new("rows", rows=True) for d in dict.fromkeys([*each, *filter(None, domains)])}

    def operand(self, old: Node) -> tuple[Node, Node]:
        """Return an input of the pass, and the operand of one example that it holds."""
        if self._b.is_ragged(old):
            domain, dense = self._b.rows.domain(old.shape), self._b.rows.dense(old.shape)
            own = placeholder(ArrayType((self.rows[domain], *dense), old.dtype))
            return own, self._together(own, old.shape, domain)
        if old not in self._b.mapped:
            own = placeholder(old.types[0])
            return own, own
        own = placeholder(ArrayType((self.one, *old.shape), old.dtype))
        return own, gather(own, full(0, (), _INT))

    def _together(self, x: Node, shape: Shape, domain: Domain) -> Node:
        """Return an array of one example from its packed rows."""
        ragged = [a for a, n in enumerate(shape) if self._b.rows.ragged(n)]
        if len(domain) == 1:
            return move_axis(x, 0, ragged[0])
        height, width = (self.rows[n,] for n in domain)
        grid = (height, width)
        starts = iota(size=height) * broadcast_along(size_scalar(width, _INT), (height,), (0,))
        place = broadcast_along(starts, grid, (1,)) + broadcast_along(iota(size=width), grid, (0,))
        order = [*ragged, *(a for a in range(len(shape)) if a not in ragged)]
        return transpose(gather(x, place), perm=tuple(order.index(a) for a in range(len(shape))))

    def result(self, x: Node, shape: Shape) -> Node:
        """Return the packed rows of a result of one example, or a stack of it alone."""
        domain = self._b.rows.domain(shape)
        ragged = [a for a, n in enumerate(shape) if self._b.rows.ragged(n)]
        if not domain:
            return broadcast_leading(x, self.one)
        if len(domain) == 1:
            return move_axis(x, ragged[0], 0)
        x = transpose(x, perm=(*ragged, *(a for a in range(len(shape)) if a not in ragged)))
        row = iota(size=self.rows[domain])
        width = broadcast_along(size_scalar(self.rows[domain[1:]], _INT), row.shape, (0,))
        return gather(x, floor_divide(row, width), mod(row, width))


def _each(b: Batching, node: Node, xs: Inputs) -> Any:
    """Apply an operation on whole matrices or signals to one example after the other."""
    example = _Example(b, [*(i.types[0] for i in node.inputs), *node.types])
    pairs = [example.operand(old) for old in node.inputs]
    params = {k: example.rows.get((v,), v) if isinstance(v, Dim) else v for k, v in node.params.items()}
    found = node.prim(*(x for _, x in pairs), **params)
    results = parts(found) if len(node.types) > 1 else [found]
    outputs = [example.result(x, t.shape) for x, t in zip(results, node.types, strict=True)]
    counts = [placeholder(ArrayType((example.one,), _INT)) for _ in example.rows]
    graph = Graph((*counts, *(own for own, _ in pairs)), tuple(outputs), name=node.prim.name)
    passes = chunked(
        *(b.rows.length(domain) for domain in example.rows), *xs, graph=graph, dim=example.one, size=1,
        total=b.rows.size, packed=tuple((n, b.rows.total(domain)) for domain, n in example.rows.items()),
        in_axes=(*(0 for _ in counts), *(0 if old in b.mapped or b.is_ragged(old) else None for old in node.inputs)),
        out_axes=(0,) * len(outputs))
    new = parts(passes)
    return tuple(new) if len(node.types) > 1 else new[0]


EACH["matrix"] = EACH["transform"] = _each
