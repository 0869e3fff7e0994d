"""Families of primitives: `elementwise`, `linear` and `discrete` declare a primitive with the rules of its family."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from .axes import POINTWISE
from .errors import DtypeError, GraphError, Unsupported, at_user_line
from .graph import PRIMITIVES, ArrayType, Node, Params, TupleType, zeros_like
from .primitive import Flops, Primitive, Sample, fail
from .tracing import guard_equal_shapes

Vjp: TypeAlias = Callable[..., Sequence[Node | None]]
Jvp: TypeAlias = Callable[..., Node]


def elementwise(name: str, eval: Callable[..., object], kernel: str, *,
                d: Callable[..., Sequence[Node | float | None]] | None = None,
                vjp: Vjp | Unsupported | None = None, jvp: Jvp | Unsupported | None = None,
                result: str = "same", domain: str = "f", arity: int | None = None,
                samples: Callable[[], list[Sample]] | None = None, order: int = 2, flops: Flops | None = None,
                linear: Literal["", "jointly", "separately", "first"] = "",
                params: Params | None = MappingProxyType({}), **attributes: Any) -> Primitive:
    """Declare an elementwise primitive of operands of equal shape.

    Parameters
    ----------
    d : callable
        ``d(out, *inputs)`` returns the partial derivatives, a node or a number each. Forward and reverse
        mode both follow from it. None stands for an operand that is a function of the others; the other partials are
        then total derivatives. Where a product with a partial would be wrong (``where``), give `vjp` and `jvp` instead.
        Without all three, the derivative is zero everywhere.
    result : {"same", "bool"}
        The result's dtype.
    domain : str
        The kinds of dtype of the operands, of ``"biuf"``.
    arity : int
        The number of operands; by default those of the kernel.
    params : mapping of str to type, or None
        The static parameters; None: unknown.
    **attributes
        Other attributes of `Primitive`.
    """
    arity = arity or sum(f"{{{i}}}" in kernel for i in range(4))

    def type_rule(*types: ArrayType, **params: object) -> ArrayType:
        if len(types) != arity:
            raise fail(name, f"takes {arity} operands", *types)
        first = types[0]
        for t in types[1:]:
            if t.dtype != first.dtype:
                raise DtypeError(at_user_line(f"{name}({', '.join(map(str, types))}): dtypes differ"))
            if not guard_equal_shapes(t.shape, first.shape):
                raise fail(name, "shapes differ", *types)
        if first.dtype.kind not in domain:
            raise DtypeError(at_user_line(f"{name}: not defined for {first}"))
        return ArrayType(first.shape, np.dtype(bool)) if result == "bool" else first

    if d is None and (vjp is None) != (jvp is None):
        raise GraphError(f"{name}: give both vjp= and jvp=, or the partial derivatives as d=")
    reverse, forward = _derivatives(d or (lambda out, *xs, **params: [None] * len(xs)))
    return Primitive(
        name, type_rule, eval, vjp or reverse, jvp or forward, kind="elementwise", kernel=kernel, axes=POINTWISE,
        flops=flops, linear=linear, constant=d is None and vjp is None, params=params,
        samples=samples or (lambda: _default_samples(arity, domain, order)), **attributes)


def _derivatives(d: Callable[..., Sequence[Node | float | None]]) -> tuple[
        Callable[..., list[Node | None]], Callable[..., Node]]:
    """Return reverse and forward rule from the function of the partial derivatives."""

    def vjp(g: Node, out: Node, *xs: Node, **params: object) -> list[Node | None]:
        return [None if p is None else _scale(g, p) for p in d(out, *xs, **params)]

    def jvp(ts: Sequence[Node | None], out: Node, *xs: Node, **params: object) -> Node:
        terms = [_scale(t, p) for t, p in zip(ts, d(out, *xs, **params), strict=True)
                 if t is not None and p is not None]
        return functools.reduce(operator.add, terms) if terms else zeros_like(out)

    return vjp, jvp


def _scale(g: Node, partial: Node | float) -> Node:
    if isinstance(partial, Node) or abs(partial) != 1:
        return g * partial
    return g if partial == 1 else -g


def uniform(low: float, high: float, arity: int = 1, order: int = 2) -> Callable[[], list[Sample]]:
    """Return the function of samples whose operands are uniform in a range."""
    def samples() -> list[Sample]:
        rng = np.random.default_rng(arity)
        return [Sample(tuple(rng.uniform(low, high, s) for _ in range(arity)), order=order) for s in ((3, 2), ())]

    return samples


def _default_samples(arity: int, domain: str, order: int) -> list[Sample]:
    rng = np.random.default_rng(arity)
    out = uniform(0.2, 0.9, arity, order)() if "f" in domain else []
    if "i" in domain:
        out.append(Sample(tuple(rng.integers(1, 6, (4,)) for _ in range(arity)), order=0))
    if "b" in domain:
        out.append(Sample(tuple(rng.integers(0, 2, (4,)).astype(bool) for _ in range(arity)), order=0))
    return out


def discrete(name: str, type: Callable[..., ArrayType], eval: Callable[..., object], **attributes: Any) -> Primitive:
    """Declare a primitive of integer or bool values, which have no derivative."""
    return Primitive(name, type, eval, vjp=lambda g, out, *xs, **params: [None] * len(xs),
                     jvp=Unsupported("its values are integers or bools"), **attributes)


def linear(name: str, type: Callable[..., ArrayType | TupleType], eval: Callable[..., object],
           transpose: Callable[..., Node | Sequence[Node | None]], batch: Callable[..., Node] | None = None,
           operands: int | None = 1, **attributes: Any) -> Primitive:
    """Declare a primitive that is linear in its first `operands` inputs (in all of them: None).

    Its forward derivative is itself on the tangents; `transpose` (``transpose(g, *inputs, **params)``, one
    cotangent per linear input) is its reverse derivative.
    """

    def vjp(g: Node, out: Node, *xs: Node, **params: object) -> list[Node | None]:
        back = transpose(g, *xs, **params)
        cotangents = [back] if isinstance(back, Node) else back
        return [*cotangents, *[None] * (len(xs) - len(cotangents))]

    def jvp(ts: Sequence[Node | None], out: Node, *xs: Node, **params: object) -> Node:
        n = len(xs) if operands is None else operands
        moved = [zeros_like(x) if t is None else t for t, x in zip(ts[:n], xs[:n], strict=True)]
        return PRIMITIVES[name](*moved, *xs[n:], **params)

    return Primitive(name, type, eval, vjp, jvp, batch, linear="first" if operands else "jointly", **attributes)


def is_linear(node: Node, varying: Sequence[bool]) -> bool:
    """Return whether a node is linear in its `varying` operands while the others stay."""
    declared = node.prim.linear
    if declared == "separately":
        return sum(varying) == 1
    return all(varying) if declared == "jointly" else declared == "first" and varying[0] and not any(varying[1:])


def require_float(name: str, *types: ArrayType) -> None:
    """Raise `DtypeError` unless all of `types` are floating."""
    for t in types:
        if not t.floating:
            raise DtypeError(at_user_line(f"{name}: expected floating operands, got {t}. Cast with x.astype(float)."))
