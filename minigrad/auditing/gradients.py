"""The gradients of the units: rows in memory, a sketch of them, or their Gram matrix.

A unit is an example, or a row of one (`per`). A sketch adds the elements of a gradient, with random signs, into fewer
buckets (Charikar, Chen and Farach-Colton, 2002): a linear map, under which an exact combination stays one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import optree
from numpy.random import default_rng

from ..compiler import compile
from ..errors import GradError, at_user_line
from ..graph import PyTree
from ..per_example import per_example_grad
from ..ragged.batch import is_batch
from ..transforms.grad import grad
from ..transforms.jacobian_products import jvp
from ..transforms.trace import function_name
from ..transforms.vmap import vmap
from .examples import Examples, Parameters, Step, precision_of, without_bfloat16
from .least_squares import Solution, solve_gram, solve_rows

IN_MEMORY = 30_000_000  # elements of all gradients that are kept
_BY_SINGULAR_VALUES = 1_500  # units, or elements of a gradient, up to which singular values solve at once
_CHUNK = 2_000  # examples in a block of the Gram matrix
_MOST = 20_000  # units


class Point(Protocol):
    """The equations ``G = Σ w_u g_u`` at one value of the parameters.

    Attributes
    ----------
    gradient : array
        G, in the space of the rows.
    norms : array (U,)
        The norm of the gradient of each unit.
    method : str
    """

    gradient: np.ndarray
    norms: np.ndarray
    method: str

    def combine(self, weights: np.ndarray) -> np.ndarray:
        """Return ``Σ w_u g_u``."""

    def solve(self, roundoff: float) -> Solution:
        """Return the weights."""


class Rows:
    """Equations whose gradients are rows in memory, or a sketch of them."""

    def __init__(self, rows: np.ndarray, gradient: np.ndarray, norms: np.ndarray, method: str):
        self.rows, self.gradient, self.norms, self.method = rows, gradient, norms, method

    def combine(self, weights: np.ndarray) -> np.ndarray:
        """Return ``Σ w_u g_u``."""
        total: np.ndarray = weights @ self.rows
        return total

    def solve(self, roundoff: float) -> Solution:
        """Return the weights."""
        if min(self.rows.shape) > _BY_SINGULAR_VALUES:
            quick = solve_gram(self.rows @ self.rows.T, self.gradient, self.rows.__matmul__, self.combine, roundoff)
            if quick.converged:
                return quick
        return solve_rows(self.rows, self.gradient, roundoff)


def stacked(points: Sequence[Rows]) -> Rows:
    """Return the equations of several points together, each divided by its largest gradient."""
    sizes = [p.norms.max(initial=0.0) or 1.0 for p in points]
    return Rows(np.hstack([p.rows / s for p, s in zip(points, sizes, strict=True)]),
                np.concatenate([p.gradient / s for p, s in zip(points, sizes, strict=True)]), points[0].norms,
                points[0].method)


class _Products:
    """Equations whose gradients are never formed: their Gram matrix, by products of the batched program."""

    method = "the Gram matrix of all gradients, which are not formed"

    def __init__(self, source: OwnGradients, params: PyTree, gradient: np.ndarray, extra: np.ndarray):
        self._source, self._params, self.gradient, self._extra = source, params, gradient, extra
        self._gram = source.gram(params)
        if len(extra):
            beside = np.stack([self._dot_own(e) for e in extra])
            self._gram = np.block([[self._gram, beside.T], [beside, extra @ extra.T]])
        self.norms = np.sqrt(np.diagonal(self._gram))

    def _dot_own(self, vector: np.ndarray) -> np.ndarray:
        return self._source.dot(self._params, vector)

    def combine(self, weights: np.ndarray) -> np.ndarray:
        """Return ``Σ w_u g_u``."""
        n = len(weights) - len(self._extra)
        total: np.ndarray = self._source.combine(self._params, weights[:n]) + weights[n:] @ self._extra
        return total

    def solve(self, roundoff: float) -> Solution:
        """Return the weights; the Gram matrix is used up."""
        return solve_gram(self._gram, self.gradient, lambda v: np.concatenate([self._dot_own(v), self._extra @ v]),
                          self.combine, roundoff)


class Source(Protocol):
    """The gradients of single units.

    Attributes
    ----------
    examples, rows : array (U,)
        The example of each unit, and its row in it.
    roundoff : float
        Of the gradients that were computed.
    """

    examples: np.ndarray
    rows: np.ndarray
    roundoff: float

    def each(self, params: PyTree) -> Iterator[np.ndarray]:
        """Yield the gradients of further units, (units, P)."""

    def of_one(self, params: PyTree, example: tuple[PyTree, ...]) -> np.ndarray:
        """Return the gradient of an example."""

    def point(self, params: PyTree, gradient: np.ndarray, extra: np.ndarray, seed: int) -> Point:
        """Return the equations at the parameters."""


class ForeignGradients:
    """The gradients of single examples by a function of any library."""

    def __init__(self, function: Step, examples: Examples, parameters: Parameters, advance: Callable[[str], None]):
        self._function, self._of, self._parameters, self._advance = function, examples, parameters, advance
        self.examples = np.arange(examples.size)
        self.rows = np.zeros(examples.size, int)
        self.roundoff = 0.0

    def each(self, params: PyTree) -> Iterator[np.ndarray]:
        """Yield the gradient of each example, (1, P)."""
        for k in range(self._of.size):
            self._advance(f"gradient of example {k}")
            gradient = self._parameters.gradient_of(self._function(params, *self._of.one(k)))
            self.roundoff = max(self.roundoff, precision_of(gradient))
            yield self._parameters.vector(gradient, f"the gradient of example {k}")[None]

    def of_one(self, params: PyTree, example: tuple[PyTree, ...]) -> np.ndarray:
        """Return the gradient of an example."""
        gradient = self._parameters.gradient_of(self._function(params, *example))
        return self._parameters.vector(gradient, "the gradient of an example")

    def point(self, params: PyTree, gradient: np.ndarray, extra: np.ndarray, seed: int) -> Point:
        """Return the equations at the parameters."""
        return _rows_point(self, params, gradient, extra, seed)


class OwnGradients:
    """The gradients of the units of a per-example loss that minigrad traces."""

    def __init__(self, loss: Step, examples: Examples, parameters: Parameters, per_row: bool,
                 lengths: np.ndarray | None, advance: Callable[[str], None]):
        self._loss, self._of, self._parameters, self._advance = loss, examples, parameters, advance
        self._per_row = per_row
        self._one = _compiled(grad(loss))
        self._together = examples.dense or all(map(is_batch, examples.args))
        axes = (None, *examples.axes)
        self._many = _compiled(per_example_grad(loss, in_axes=axes))
        self._combined = _compiled(grad(lambda p, w, *more: np.sum(w * vmap(loss, axes)(p, *more))))
        self._dotted = _compiled(lambda p, t, *more: vmap(
            lambda *one: jvp(lambda q: loss(q, *one), (p,), (t,))[1], tuple(examples.axes))(*more))
        self._blocks = _compiled(_block(loss, axes))
        self._rows_of_one = _compiled(lambda p, spread, *one: vmap(
            lambda v: grad(lambda q: np.sum(v * loss(q, *one)))(p))(spread))
        self._row_losses = _compiled(loss)
        counts = np.ones(examples.size, int)
        if per_row:
            self._whole = np.array([self._row_count(k) for k in range(examples.size)])
            counts = self._whole if lengths is None else lengths  # rows beyond are padding
            if (counts > self._whole).any():
                k = int(np.argmax(counts > self._whole))
                raise GradError(at_user_line(f"audit({function_name(loss)}): example {k} has {self._whole[k]} rows, "
                                             f"but lengths= has {counts[k]}"))
        self.examples = np.repeat(np.arange(examples.size), counts)
        self.rows = np.concatenate([np.arange(c) for c in counts])
        self._counts = counts
        self.roundoff = 0.0

    def _row_count(self, k: int) -> int:
        losses = np.asarray(self._row_losses(self._parameters.tree, *self._of.one(k)))
        if losses.ndim != 1:
            raise GradError(at_user_line(f"audit({function_name(self._loss)}): with per=, the loss of example {k} is "
                                         f"one number per row, (rows,); it has shape {losses.shape}"))
        return len(losses)

    def _chunks(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, self._of.size, size):
            yield np.arange(start, min(start + size, self._of.size))

    def each(self, params: PyTree) -> Iterator[np.ndarray]:
        """Yield the gradients of further units, (units, P)."""
        if self._per_row or not self._together:
            for k in range(self._of.size):
                self._advance(f"gradients of example {k}")
                if self._per_row and not self._counts[k]:
                    continue
                if self._per_row:
                    spread = np.eye(self._counts[k], self._whole[k])
                    yield self._flat(self._rows_of_one(params, spread, *self._of.one(k)), k)
                else:
                    yield self.of_one(params, self._of.one(k))[None]
            return
        for some in self._chunks(max(1, 4_000_000 // self._parameters.size)):
            self._advance(f"gradients from example {some[0]}")
            yield self._flat(self._many(params, *self._of.take(some)), int(some[0]))

    def _flat(self, gradients: PyTree, first: int) -> np.ndarray:
        leaves = [np.asarray(g) for g in optree.tree_leaves(gradients)]
        self.roundoff = max(self.roundoff, precision_of(gradients))
        flat = np.concatenate([g.reshape(len(g), -1).astype(np.float64) for g in leaves], axis=1)
        finite = np.isfinite(flat).all(axis=1)
        if not finite.all():
            k = int(np.flatnonzero(~finite)[0])
            example, row = (first, f", row {k}") if self._per_row else (first + k, "")
            raise GradError(at_user_line(f"audit({function_name(self._loss)}): the gradient of example {example}{row} "
                                         "is not finite"))
        return flat

    def of_one(self, params: PyTree, example: tuple[PyTree, ...]) -> np.ndarray:
        """Return the gradient of an example."""
        gradient = self._one(params, *example)
        self.roundoff = max(self.roundoff, precision_of(gradient))
        return self._parameters.vector(gradient, "the gradient of an example")

    def point(self, params: PyTree, gradient: np.ndarray, extra: np.ndarray, seed: int) -> Point:
        """Return the equations at the parameters."""
        products = self._together and not self._per_row
        if products and len(self.examples) * self._parameters.size > IN_MEMORY:
            _check_count(len(self.examples))
            return _Products(self, params, gradient, extra)
        return _rows_point(self, params, gradient, extra, seed)

    def gram(self, params: PyTree) -> np.ndarray:
        """Return the products of all pairs of gradients, block by block."""
        n = self._of.size
        out = np.empty((n, n), np.result_type(*map(np.asarray, optree.tree_leaves(params))))
        chunks = [(c, self._of.take(c)) for c in self._chunks(_CHUNK)]
        for i, (a, left) in enumerate(chunks):
            for b, right in chunks[:i + 1]:
                self._advance(f"products of examples {a[0]} and {b[0]}")
                block = self._blocks(params, left, right)
                out[a[0]:a[-1] + 1, b[0]:b[-1] + 1] = block
                out[b[0]:b[-1] + 1, a[0]:a[-1] + 1] = block.T
        self.roundoff = max(self.roundoff, precision_of([out]))
        finite = np.isfinite(np.diagonal(out))
        if not finite.all():
            raise GradError(at_user_line(f"audit({function_name(self._loss)}): the gradient of example "
                                         f"{int(np.flatnonzero(~finite)[0])} is not finite"))
        return out

    def combine(self, params: PyTree, weights: np.ndarray) -> np.ndarray:
        """Return the weighted sum of the gradients."""
        total = np.zeros(self._parameters.size)
        for some in self._chunks(_CHUNK):
            total += self._parameters.vector(self._combined(params, weights[some], *self._of.take(some)), "the sum")
        return total

    def dot(self, params: PyTree, vector: np.ndarray) -> np.ndarray:
        """Return the products of all gradients with a vector."""
        tangent = self._parameters.split(vector)
        return np.concatenate([np.asarray(self._dotted(params, tangent, *self._of.take(some)), np.float64)
                               for some in self._chunks(_CHUNK)])


def _compiled(function: Step) -> Step:
    program = compile(function)
    return lambda *args: program(*map(without_bfloat16, args))


def _block(loss: Step, axes: tuple[PyTree, ...]) -> Callable[..., PyTree]:
    """Return the function of the products between the gradients of two sets of examples."""
    def products(params: PyTree, left: PyTree, right: PyTree) -> PyTree:
        a, b = (optree.tree_leaves(per_example_grad(loss, in_axes=axes)(params, *more)) for more in (left, right))
        return sum(g.reshape(g.shape[0], -1) @ h.reshape(h.shape[0], -1).T for g, h in zip(a, b, strict=True))

    return products


def _check_count(n: int) -> None:
    if n > _MOST:
        raise GradError(at_user_line(f"audit: {n:,} units are too many to solve for; audit at most {_MOST:,} at once"))


def _rows_point(source: Source, params: PyTree, gradient: np.ndarray, extra: np.ndarray, seed: int) -> Rows:
    """Return the equations with all rows in memory, or with a sketch of them."""
    n, size = len(source.examples), len(gradient)
    _check_count(n)
    if n * size <= IN_MEMORY:
        rows = np.vstack([*source.each(params), extra])
        return Rows(rows, gradient, np.linalg.norm(rows, axis=1), "all gradients")
    width = min(size, max(n + n // 4, 2_000))
    rng = default_rng(seed)
    bucket, sign = rng.integers(0, width, size), rng.choice([-1.0, 1.0], size)

    def sketch(vector: np.ndarray) -> np.ndarray:
        return np.bincount(bucket, sign * vector, width)

    rows, norms, at = np.empty((n + len(extra), width)), np.empty(n + len(extra)), 0
    for some in itertools.chain(source.each(params), [extra]):
        for vector in some:
            rows[at], norms[at] = sketch(vector), np.linalg.norm(vector)
            at += 1
    return Rows(rows, sketch(gradient), norms,
                f"a sketch of the gradients, {size:,} elements into {width:,} (seed {seed})")


def extra_rows(extra: Mapping[str, Step], params: PyTree, parameters: Parameters) -> np.ndarray:
    """Return the further directions at the parameters, (directions, P)."""
    rows = [parameters.vector(f(params), f"extra[{name!r}]") for name, f in extra.items()]
    return np.array(rows).reshape(len(rows), parameters.size)
