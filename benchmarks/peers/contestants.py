"""The contestants: how the users of each library turn a loss into a step that returns value and gradient.

A program is written once, as the loss of one example, in the names that a library offers (`Names`); libraries that
cannot map it over a batch get the loss of a batch. Libraries are imported when their contestant is made, so that a
process which starts with one of them waits for no other.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

Args = tuple[Any, ...]  # the parameters, then the examples' arrays, each with the examples along axis 0
Step = Callable[..., Any]


@dataclass(frozen=True)
class Names:
    """The functions of a library that programs call: its NumPy, and four that users do not write themselves."""

    np: Any
    logsumexp: Callable[[Any], Any]  # along the last axis
    softmax: Callable[[Any], Any]  # along the last axis
    scan: Callable[..., Any]  # (carry, y) = f(carry, x) over axis 0
    solve_lower: Callable[[Any, Any], Any]  # with a lower triangular matrix


@dataclass(frozen=True)
class Program:
    """A loss, as each library's users write it.

    Attributes
    ----------
    one : callable
        ``one(names, params, *example)``: the loss of one example.
    batch : callable
        ``batch(names, params, *examples)``: the mean loss of a batch, for libraries without `vmap`.
    torch : callable
        ``torch(params, *examples)``: the same in PyTorch's own layers.
    torch_one : callable, optional
        ``torch_one(params, *example)``: for ``torch.func``, where `one` differs from the code of its users.
    refused : mapping of str to str
        Contestants that do not run this program, and why.
    """

    one: Callable[..., Any]
    batch: Callable[..., Any]
    torch: Callable[..., Any]
    torch_one: Callable[..., Any] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """A way to run a program.

    Attributes
    ----------
    build : callable
        From arguments to a fresh step for such arguments; compilation may wait for the step's first call.
        A step does all its work before it returns.
    put : callable
        From NumPy arguments to the library's own.
    compiles : bool
        Whether the first call takes longer than the others because something is compiled.
    keeps : bool
        Whether the step keeps working memory from one call to the next.
    peak : callable, optional
        From arguments to the bytes that a step takes beside them, where the library says so itself.
    """

    build: Callable[[Args], Step]
    put: Callable[[Args], Args] = lambda args: args
    compiles: bool = True
    keeps: bool = False
    peak: Callable[[Args], float] | None = None


def _scan_in_python(f: Callable[..., Any], carry: Any, xs: Any) -> tuple[Any, None]:
    """Carry a value along axis 0, and drop the steps' results."""
    for x in xs:
        carry, _ = f(carry, x)
    return carry, None


def mean_of(one: Callable[..., Any], vmap: Callable[..., Any]) -> Callable[..., Any]:
    """Return the mean loss of a batch by a library's `vmap`."""
    def mean(params: Any, *examples: Any) -> Any:
        return vmap(one, (None, *[0] * len(examples)))(params, *examples).mean()

    return mean


# -- minigrad ----------------------------------------------------------------------------------------------


def minigrad_backends() -> list[str]:
    """Return the backends for this machine's processor, the fastest last."""
    from minigrad import backends

    return [b for b in backends.names() if not backends.get(b).on_device]


def minigrad_names() -> Names:
    import minigrad as mg

    return Names(np, partial(mg.special.logsumexp, axis=-1), partial(mg.special.softmax, axis=-1), mg.scan,
                 np.linalg.solve)


def with_minigrad(program: Program, backend: str) -> Contestant:
    """Return minigrad's compiled value and gradient; one program serves every batch size."""
    import minigrad as mg

    if backend == "native":
        import llvmlite  # noqa: F401 - absent: the row says so

    def build(args: Args) -> Step:
        loss = mg.mean_loss(partial(program.one, minigrad_names()), in_axes=(None, *[0] * (len(args) - 1)))
        return mg.compile(mg.value_and_grad(loss), backend=backend)

    return Contestant(build, keeps=True)


# -- the peers ---------------------------------------------------------------------------------------------


def jax_names() -> Names:
    import jax
    import jax.numpy as jnp

    return Names(jnp, partial(jax.scipy.special.logsumexp, axis=-1), jax.nn.softmax, jax.lax.scan,
                 partial(jax.scipy.linalg.solve_triangular, lower=True))


def with_jax(program: Program) -> Contestant:
    """Return ``jax.jit`` of value and gradient."""
    import jax

    return jitted(lambda: jax.value_and_grad(mean_of(partial(program.one, jax_names()), jax.vmap)))


def jitted(make: Callable[[], Callable[..., Any]]) -> Contestant:
    """Return ``jax.jit`` of a function, made afresh for each step, so that nothing compiled before is found again.

    XLA keeps its memory for later calls, so that the process shows nothing of it; XLA itself tells how much it takes.
    """
    import jax

    def build(args: Args) -> Step:
        step = jax.jit(make())
        return lambda *args: jax.block_until_ready(step(*args))

    def peak(args: Args) -> float:
        memory = jax.jit(make()).lower(*args).compile().memory_analysis()
        return float(memory.temp_size_in_bytes + memory.output_size_in_bytes)

    return Contestant(build, put_jax, peak=peak)


def put_jax(args: Args) -> Args:
    import jax
    import jax.numpy as jnp

    return jax.block_until_ready(jax.tree.map(jnp.asarray, args))


def torch_names() -> Names:
    import torch

    return Names(torch, partial(torch.logsumexp, dim=-1), partial(torch.softmax, dim=-1), _scan_in_python,
                 partial(torch.linalg.solve_triangular, upper=False))


def put_torch(args: Args, learn: bool = True) -> Args:
    """Return tensors that share the arrays' memory; the parameters are to be differentiated by."""
    import torch
    from torch.utils import _pytree as pytree

    from .. import harness

    torch.set_num_threads(harness.cores())
    params, *examples = args
    return (pytree.tree_map(lambda x: torch.tensor(x, requires_grad=learn), params), *map(torch.from_numpy, examples))


def _torch_step(loss: Callable[..., Any]) -> Step:
    import torch
    from torch.utils import _pytree as pytree

    def step(params: Any, *examples: Any) -> Any:
        leaves, tree = pytree.tree_flatten(params)
        value = loss(params, *examples)
        return value.detach(), pytree.tree_unflatten(torch.autograd.grad(value, leaves), tree)

    return step


def with_torch(program: Program) -> Contestant:
    """Return PyTorch's autograd on the loss of a batch."""
    import torch  # noqa: F401 - absent: the row says so

    return Contestant(lambda args: _torch_step(program.torch), put_torch, compiles=False)


def with_torch_func(program: Program) -> Contestant:
    """Return ``torch.func``: the loss of one example under `vmap`, its mean differentiated."""
    import torch

    def build(args: Args) -> Step:
        one = program.torch_one or partial(program.one, torch_names())
        step = torch.func.grad_and_value(mean_of(one, torch.func.vmap))

        def swapped(*args: Any) -> Any:
            gradient, value = step(*args)
            return value, gradient

        return swapped

    return Contestant(build, partial(put_torch, learn=False), compiles=False)


def with_torch_compile(program: Program) -> Contestant:
    """Return ``torch.compile`` of the loss of a batch."""
    import torch  # noqa: F401 - absent: the row says so

    return Contestant(lambda args: _torch_step(compiled_afresh(program.torch)), put_torch)


def compiled_afresh(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``torch.compile`` of a function; nothing that was compiled before is found again."""
    import torch
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    inductor.force_disable_caches = True
    return torch.compile(f)


def pytensor_names() -> Names:
    import pytensor
    import pytensor.tensor as pt

    def scan(f: Callable[..., Any], carry: Any, xs: Any) -> tuple[Any, None]:
        states = pytensor.scan(lambda x, c: f(c, x)[0], sequences=[xs], outputs_info=[carry], return_updates=False)
        return states[-1], None

    return Names(pt, partial(pt.logsumexp, axis=-1), partial(pt.special.softmax, axis=-1), scan,
                 partial(pt.linalg.solve_triangular, lower=True))


def with_pytensor(program: Program) -> Contestant:
    """Return PyTensor's function of the loss of a batch, and of its gradients."""
    # numbers in a program are to be float32, and no code of an earlier run is found
    os.environ.setdefault("PYTENSOR_FLAGS", f"floatX=float32,base_compiledir={tempfile.mkdtemp()}")
    import optree
    import pytensor
    import pytensor.tensor as pt

    def build(args: Args) -> Step:
        params, *examples = args
        variables = optree.tree_map(lambda x: pt.tensor(dtype=x.dtype.name, shape=x.shape), params)
        batch = [pt.tensor(dtype=x.dtype.name, shape=(None, *x.shape[1:])) for x in examples]
        leaves = optree.tree_leaves(variables)
        value = program.batch(pytensor_names(), variables, *batch)
        function = pytensor.function([*leaves, *batch], [value, *pytensor.grad(value, leaves)])
        return lambda params, *examples: function(*optree.tree_leaves(params), *examples)

    return Contestant(build)


def autograd_names() -> Names:
    import autograd.numpy as anp
    from autograd.scipy.linalg import solve_triangular
    from autograd.scipy.special import logsumexp

    def softmax(x: Any) -> Any:
        e = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
        return e / anp.sum(e, axis=-1, keepdims=True)

    return Names(anp, partial(logsumexp, axis=-1), softmax, _scan_in_python,
                 partial(solve_triangular, lower=True))


def with_autograd(program: Program) -> Contestant:
    """Return HIPS autograd on the loss of a batch."""
    import autograd

    return Contestant(lambda args: autograd.value_and_grad(partial(program.batch, autograd_names())), compiles=False)


PEERS: dict[str, Callable[[Program], Contestant]] = {
    "JAX jit": with_jax, "torch eager": with_torch, "torch.func": with_torch_func, "torch.compile": with_torch_compile,
    "PyTensor": with_pytensor, "autograd": with_autograd}


def makers(program: Program) -> dict[str, Callable[[], Contestant]]:
    """Return how to make each contestant, minigrad's backends first, but for those that the program refuses."""
    ours = {f"minigrad {b}": partial(with_minigrad, program, b) for b in minigrad_backends()}
    return ours | {name: partial(make, program) for name, make in PEERS.items() if name not in program.refused}


def maker(program: Program, name: str) -> Callable[[], Contestant]:
    """Return how to make one contestant; only its own library is imported."""
    library, _, backend = name.partition(" ")
    return partial(with_minigrad, program, backend) if library == "minigrad" else partial(PEERS[name], program)
