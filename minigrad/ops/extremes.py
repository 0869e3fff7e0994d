"""Derivatives of extremes: the elements that attain one share its cotangent equally."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..graph import Node
from .elementwise import cast_to, eq

Rule = Callable[..., Node]


def extreme_rules(add_up: Rule, distribute: Rule) -> tuple[Callable[..., list[Node | None]], Rule]:
    """Return the vjp and jvp of a reduction or scatter that takes the maximum or minimum.

    Parameters
    ----------
    add_up : callable
        ``add_up(x, *indices, **params)`` is the same operation with sums in place of extremes.
    distribute : callable
        ``distribute(y, x, *indices, **params)`` is its adjoint: the element of `y` that each element of `x` goes to.
    """
    def shares(out: Node, x: Node, *indices: Node, **params: object) -> Node:
        hit = cast_to(eq(x, distribute(out, x, *indices, **params)), x.dtype)
        return hit / distribute(add_up(hit, *indices, **params), x, *indices, **params)

    def vjp(g: Node, out: Node, x: Node, *indices: Node, **params: object) -> list[Node | None]:
        back = distribute(g, x, *indices, **params)
        return [back * shares(out, x, *indices, **params), *[None] * len(indices)]

    def jvp(ts: Sequence[Node], out: Node, x: Node, *indices: Node, **params: object) -> Node:
        return add_up(ts[0] * shares(out, x, *indices, **params), *indices, **params)

    return vjp, jvp
