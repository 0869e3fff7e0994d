"""Differences in the user's program: rewrites never split a sum across one.

Two large numbers that nearly cancel leave few digits, and those only where each pair is subtracted first:
``sum(x - y)`` is exact where ``sum(x) - sum(y)`` loses everything, and so is ``sum((x - y)**2)`` beside its
multiplied-out form. Passes and rules that move sums call `is_difference` before they split an addition.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..graph import Node

_DEPTH = 4  # nested additions and products that `sign` descends into
_SIGNED = ("add", "sub", "mul", "div", "einsum")


def is_difference(node: Node) -> bool:
    """Return whether a node subtracts: a `sub`, or an `add` of operands with opposite signs.

    An addition of cotangents by reverse mode counts as a sum, with any signs.
    """
    if node.prim.name not in ("add", "sub"):
        return False
    opposite = sign(node.inputs[0]) != sign(node.inputs[1])
    return not opposite if node.prim.name == "sub" else opposite and "vjp" not in node.rules


def sign(node: Node, depth: int = _DEPTH) -> int:
    """Return -1 for a value that is negative by its form, such as ``-x``; 1 for others."""
    outer = 1
    while True:
        name = node.prim.name
        if name in ("full", "const"):
            value = np.asarray(node.params["value"])
            return -outer if value.dtype.kind in "if" and value.size and (value < 0).all() else outer
        if name == "neg":
            outer = -outer
        elif name not in ("sum", "mean", "cast") and node.prim.kind != "view":
            break
        node = node.inputs[0]
    if not depth or name not in _SIGNED:
        return outer
    signs = [sign(i, depth - 1) for i in node.inputs]
    if name == "sub":
        signs[1] = -signs[1]
    return outer * (prod(signs) if name not in ("add", "sub") else signs[0] if signs[0] == signs[1] else 1)
