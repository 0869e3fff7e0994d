"""The libraries: their functions, under the names of the programs.

A library is imported when its record is made, so that a process which runs one of them waits for no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import harness

Tree = Any


@dataclass(frozen=True)
class Library:
    """The functions of a library that the programs call; arrays have their batch along axis 0.

    Attributes
    ----------
    np : module
        Its NumPy.
    compile : callable
        Turn a step into its fastest form, whose calls do all their work before they return.
    put : callable
        From NumPy arguments to the library's own.
    outer_value_and_grad : callable
        The value and gradient of a loss by its first argument, as the outermost transform.
    """

    np: Any
    compile: Callable[[Callable[..., Any]], Callable[..., Any]]
    put: Callable[[Tree], Tree]
    outer_value_and_grad: Callable[[Callable[..., Any]], Callable[..., Any]]
    vmap: Callable[..., Any]  # (f, in_axes)
    grad: Callable[..., Any]
    value_and_grad: Callable[..., Any]
    hessian: Callable[..., Any]
    hvp: Callable[..., Any]  # (f, x, v) -> H v
    logsumexp: Callable[[Any], Any]  # along the last axis
    softmax: Callable[[Any], Any]  # along the last axis
    relu: Callable[[Any], Any]
    softplus: Callable[[Any], Any]
    gammaln: Callable[[Any], Any]
    sigmoid: Callable[[Any], Any]
    scan: Callable[..., Any]  # (carry, y) = f(carry, x) over axis 0
    segment_sum: Callable[[Any, Any, int], Any]
    conv: Callable[[Any, Any], Any]  # images (batch, channels, height, width), padded by one
    max_pool: Callable[[Any], Any]  # windows of 2 by 2
    solve_lower: Callable[[Any, Any], Any]  # with a lower triangular matrix


def minigrad() -> Library:
    import minigrad as mg
    import minigrad.numpy as mnp

    def put(args: Tree) -> Tree:
        return args

    return Library(
        np, mg.compile, put, mg.value_and_grad, mg.vmap, mg.grad, mg.value_and_grad, mg.hessian,
        lambda f, x, v: mg.hvp(f, (x,), (v,)), partial(mg.special.logsumexp, axis=-1),
        partial(mg.special.softmax, axis=-1), lambda x: np.maximum(x, 0), mg.special.softplus, mg.special.gammaln,
        mg.special.expit, mg.scan, mg.segment_sum, mg.vmap(partial(mnp.conv, padding=1), (0, None)),
        mg.vmap(partial(mnp.max_pool, size=2)), partial(mnp.linalg.solve_triangular, lower=True))


def jax() -> Library:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
        step = jax.jit(f)
        return lambda *args: jax.block_until_ready(step(*args))

    def put(args: Tree) -> Tree:
        return jax.block_until_ready(jax.tree.map(
            lambda x: jnp.asarray(x, "int32" if x.dtype == np.int64 else x.dtype), args))

    def conv(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))

    def max_pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    return Library(
        jnp, compiled, put, jax.value_and_grad, jax.vmap, jax.grad, jax.value_and_grad, jax.hessian,
        lambda f, x, v: jax.jvp(jax.grad(f), (x,), (v,))[1], partial(jax.scipy.special.logsumexp, axis=-1),
        jax.nn.softmax, jax.nn.relu, jax.nn.softplus, jax.scipy.special.gammaln, jax.nn.sigmoid, jax.lax.scan,
        lambda x, ids, n: jax.ops.segment_sum(x, ids, num_segments=n), conv, max_pool,
        partial(jax.scipy.linalg.solve_triangular, lower=True))


def torch() -> Library:
    import torch
    from torch.nn import functional
    from torch.utils import _pytree as pytree

    torch.set_num_threads(harness.cores())

    def put(args: Tree) -> Tree:
        return pytree.tree_map(torch.from_numpy, args)

    def outer_value_and_grad(loss: Callable[..., Any]) -> Callable[..., Any]:
        def step(params: Tree, *rest: Any) -> Any:
            leaves, tree = pytree.tree_flatten(params)
            leaves = [x.detach().requires_grad_() for x in leaves]
            value = loss(pytree.tree_unflatten(leaves, tree), *rest)
            return value.detach(), pytree.tree_unflatten(list(torch.autograd.grad(value, leaves)), tree)

        return step

    def value_and_grad(loss: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            gradient, value = torch.func.grad_and_value(loss)(*args)
            return value, gradient

        return step

    def scan(f: Callable[..., Any], carry: Any, xs: Any) -> tuple[Any, Any]:
        ys = []
        for x in xs:
            carry, y = f(carry, x)
            ys.append(y)
        return carry, None if y is None else torch.stack(ys)

    def segment_sum(x: Any, ids: Any, n: int) -> Any:
        return torch.zeros((n, *x.shape[1:]), dtype=x.dtype).index_add(0, ids, x)

    return Library(
        torch, lambda f: f, put, outer_value_and_grad, torch.func.vmap, torch.func.grad, value_and_grad,
        torch.func.hessian, lambda f, x, v: torch.func.jvp(torch.func.grad(f), (x,), (v,))[1],
        partial(torch.logsumexp, dim=-1), partial(torch.softmax, dim=-1), functional.relu, functional.softplus,
        torch.lgamma, torch.sigmoid, scan, segment_sum, partial(functional.conv2d, padding=1),
        partial(functional.max_pool2d, kernel_size=2), partial(torch.linalg.solve_triangular, upper=False))


LIBRARIES: dict[str, Callable[[], Library]] = {"minigrad": minigrad, "JAX": jax, "torch": torch}
