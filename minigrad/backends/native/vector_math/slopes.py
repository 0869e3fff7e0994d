"""Derivatives that are free but where they cancel: the dear formula runs only if one of the lanes needs it."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .exponential import cosh
from .lanes import Lanes, fabs, select
from .remainder import any_lane, internal, suffix

_CANCELS = 3.0  # tanh(3)**2 is 0.99


def tanh_slope(x: Lanes, y: Lanes) -> Lanes:
    """Return 1 - y**2 for y = tanh(x), and 2 / (1 + cosh(2 x)) where |x| is so large that it cancels."""
    return _seldom("tanh_slope", lambda x, y: 1.0 - y * y, lambda x, y: fabs(x) > _CANCELS,
                   lambda x, y: 2.0 / (cosh(x + x) + 1.0), x, y)


def _seldom(name: str, usual: Callable[..., Lanes], is_rare: Callable[..., Lanes], rare: Callable[..., Lanes],
            *xs: Lanes) -> Lanes:
    """Return ``select(is_rare, rare, usual)`` from a function of the module, which skips `rare` where no lane is."""
    first = xs[0]
    full, module = f"mg.{name}.{suffix(first)}", first.builder.module
    function = module.globals.get(full)
    if function is None:
        kind = ir.FunctionType(first.type, [x.type for x in xs])
        function = internal(module, full, kind, "alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block("usual"))
        inside = [Lanes(builder, a, first.fused) for a in function.args]
        out, mask = usual(*inside), is_rare(*inside)
        start = builder.block
        with builder.if_then(mask.value if first.count is None else any_lane(mask), likely=False):
            replaced = select(mask, rare(*inside), out)
            end = builder.block
        result = builder.phi(first.type)
        result.add_incoming(out.value, start)
        result.add_incoming(replaced.value, end)
        builder.ret(result)
    return first.of(first.builder.call(function, [x.value for x in xs]))
