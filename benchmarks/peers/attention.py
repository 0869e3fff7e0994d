"""An attention block behind a layer norm: 64 tokens of width 64, 4 heads, 32 examples; value and gradient, float32.

The input passes through a layer of weights first, so that the gradient has to go back through the whole block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import harness
from . import limits, table
from .contestants import Args, Names, Program, makers

TOKENS, WIDTH, HEADS, BATCH = 64, 64, 4, 32
HEAD = WIDTH // HEADS


def one(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return the mean squared error of one example: ``x`` and ``y`` are (tokens, width)."""
    np = names.np
    x = x @ p["in"]
    centred = x - x.mean(-1)[:, None]
    h = centred / np.sqrt((centred**2).mean(-1) + 1e-5)[:, None] * p["scale"] + p["shift"]
    q, k, v = ((h @ p[name]).reshape(TOKENS, HEADS, HEAD) for name in "qkv")
    weights = names.softmax(np.einsum("ihd,jhd->hij", q, k) * HEAD**-0.5)
    mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(TOKENS, WIDTH)
    return ((x + mixed @ p["o"] - y) ** 2).mean()


def batch(names: Names, p: Any, x: Any, y: Any) -> Any:
    """Return the mean squared error of a batch."""
    np = names.np
    x = x @ p["in"]
    centred = x - x.mean(-1)[..., None]
    h = centred / np.sqrt((centred**2).mean(-1) + 1e-5)[..., None] * p["scale"] + p["shift"]
    q, k, v = ((h @ p[name]).reshape((-1, TOKENS, HEADS, HEAD)).transpose((0, 2, 1, 3)) for name in "qkv")
    weights = names.softmax(q @ k.transpose((0, 1, 3, 2)) * HEAD**-0.5)
    mixed = (weights @ v).transpose((0, 2, 1, 3)).reshape((-1, TOKENS, WIDTH))
    return ((x + mixed @ p["o"] - y) ** 2).mean()


def torch_batch(p: Any, x: Any, y: Any) -> Any:
    """Return the same, in PyTorch's layers; they serve one example as well."""
    from torch.nn.functional import layer_norm, mse_loss, scaled_dot_product_attention

    x = x @ p["in"]
    h = layer_norm(x, (WIDTH,), p["scale"], p["shift"])
    q, k, v = ((h @ p[name]).unflatten(-1, (HEADS, HEAD)).transpose(-2, -3) for name in "qkv")
    mixed = scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
    return mse_loss(x + mixed @ p["o"], y)


PROGRAM = Program(one, batch, torch_batch, torch_batch)


def data(n: int) -> Args:
    """Return parameters, `n` inputs and targets."""
    rng = np.random.default_rng(0)
    p = {name: rng.normal(0, WIDTH ** -0.5, (WIDTH, WIDTH)).astype(np.float32) for name in ("in", *"qkvo")}
    p |= {"scale": 1 + rng.normal(0, 0.1, WIDTH).astype(np.float32),
          "shift": rng.normal(0, 0.1, WIDTH).astype(np.float32)}
    return p, *(rng.standard_normal((n, TOKENS, WIDTH), np.float32) for _ in range(2))


def run(quick: bool) -> harness.Result:
    """Measure one batch."""
    args = data(BATCH)
    weights, mixing = 2 * TOKENS * WIDTH**2, 2 * TOKENS**2 * WIDTH  # operations of one product, of one example
    work = limits.Work(limits.traffic(args) + limits.traffic(args[0]), BATCH * (14 * weights + 6 * mixing))
    case = table.measure(f"layer norm and attention, {TOKENS} tokens of {WIDTH}, {HEADS} heads, batch {BATCH}",
                         makers(PROGRAM), args, table.exact(PROGRAM, args), work, quick, size=BATCH)
    return harness.Result([case], [table.faster(case, "JAX jit", 1.2, "attention"),
                                   table.compiles_sooner(case, "attention")])


if __name__ == "__main__":
    harness.main("peers.attention", run)
