"""Kernels for what is no element-by-element work: random bits, running totals, and scatters.

A scatter's updates are put into the order of the places that they go to (and, within a place, into their own), by a
sort of 64-bit keys. Then every place adds up its own, one after the other: no atomics, so the same sum in every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...dims import Dim, size_of, value
from ...graph import Node
from ...ops.accumulators import scattered
from ...ops.scatter import worst
from . import scalar
from .kernels import THREADS, Launch, Sizes, _Kernel, power

_BLOCKS = 16384


def _over(w: _Kernel, total: str) -> Any:
    """Open the loop of a kernel over `total` things, one per thread."""
    w.emit(f"const i64 total = {total};")
    return w.scope(f"for (i64 t = (i64)blockIdx.x * {THREADS} + threadIdx.x; t < total; "
                   f"t += (i64)gridDim.x * {THREADS})", ["t"])


def _blocks(total: Callable[[Sizes], int]) -> Callable[[Sizes], int]:
    return lambda sizes: max(min(-(-total(sizes) // THREADS), _BLOCKS), 1)


def random_bits(node: Node, *args: Any) -> Launch:
    """Return the launch that writes a `random_bits` node: each thread computes the four words of a counter."""
    w = _Kernel(*args)
    (key,), p = node.inputs, node.params
    lead, n = key.shape[:-1], size_of(p["shape"])
    count = w.size(n)
    w.emit(f"const i64 count = {count}, quads = (count + 3) / 4;")
    with _over(w, f"{w.size(size_of(lead))} * quads"):
        w.emit("const I quad = (I)(t % quads), line = (I)(t / quads);")
        w.scopes[-1].names |= {"quad", "line"}
        at = w.split("line", lead)
        k0, k1 = (w.value(key, (*at, word)) for word in ("0", "1"))
        w.emit(f"const Words words = philox((unsigned)quad, (unsigned)((u64)quad >> 32), {p['stream']}u, 0u, "
               f"{k0}, {k1});")
        out = w.pointer(("to", node), node.dtype, write=True)
        w.emit(f"for (int j = 0; j < 4; j++) if ((i64)quad * 4 + j < count) {out}[(i64)line * count + (i64)quad * 4 + "
               "j] = words.w[j];")
    w.writes.append(node)
    return w.launch(_blocks(lambda sizes: value(size_of(lead), sizes) * -(-value(n, sizes) // 4)))


# Of an element, or several, and the total before it.
TOTALS = {"cumsum": "{1} + {0}", "cummax": "mg_max({0}, {1})", "cummin": "mg_min({0}, {1})",
          "cumfmax": "{0} >= {1} || {1} != {1} ? {0} : {1}", "cumfmin": "{0} <= {1} || {1} != {1} ? {0} : {1}"}


def _neutral(node: Node) -> str:
    """Return what a running total begins with."""
    name, dtype = node.prim.name, node.dtype
    if name == "cumsum":
        return "0"
    if name in ("cumfmax", "cumfmin"):
        return scalar.literal(math.nan, dtype)
    return str(int(name == "cummin")) if dtype.kind == "b" else scalar.literal(worst(dtype, name == "cummax"), dtype)


def running(node: Node, *args: Any) -> Launch:
    """Return the launch that writes a running total: a block for each line, 256 elements after the other."""
    w = _Kernel(*args)
    (x,), axis = node.inputs, node.params["axis"]
    kind, zero, add = scalar.accumulated(node.dtype), _neutral(node), TOTALS[node.prim.name].format
    before, inner = node.shape[:axis], node.shape[axis + 1:]
    lines, n = size_of(before + inner), node.shape[axis]
    w.emit(f"__shared__ {kind} scan[{THREADS}];")
    w.emit(f"const I lines = {w.size(lines)}, count = {w.size(n)}; const int tid = threadIdx.x;")
    with w.scope("for (I line = blockIdx.x; line < lines; line += gridDim.x)", ["line"]):
        at = w.split("line", before + inner)
        w.emit(f"{kind} carry = {zero};")
        with w.scope(f"for (I low = 0; low < count; low += {THREADS})", ["low"]):
            w.emit("const I place = low + tid;")
            w.scopes[-1].names.add("place")
            idx = (*at[:axis], "place", *at[axis:])
            w.emit(f"{kind} v = {zero};")
            with w.scope("if (place < count)"):
                own = w.inner("place")
                w.emit(f"v = {w.value(x, (*at[:axis], own, *at[axis:]))};")
            w.emit("__syncthreads(); scan[tid] = v;")
            w.emit(f"for (int d = 1; d < {THREADS}; d *= 2) {{ __syncthreads(); const {kind} o = tid >= d ? "
                   f"scan[tid - d] : {zero}; __syncthreads(); v = {add('v', 'o')}; scan[tid] = v; }}")
            w.emit("__syncthreads();")
            with w.scope("if (place < count)"):
                out = w.pointer(("to", node), node.dtype, write=True)
                text = scalar.rounded(f"({scalar.computed(node.dtype)})({add('v', 'carry')})", node.dtype)
                w.emit(scalar.store(out, w.linear(idx, node.shape), text, node.dtype))
            w.emit(f"carry = {add(f'scan[{THREADS - 1}]', 'carry')};")
    w.writes.append(node)
    return w.launch(lambda sizes: max(min(value(lines, sizes), _BLOCKS), 1))


# -- scatters ----------------------------------------------------------------------------------------------


def targets(node: Node) -> tuple[Node, ...]:
    """Return the indices of the places that a scatter's updates go to."""
    return node.inputs[2:] if node.prim.name == "gather_sum" else node.inputs[1:]


def updates(node: Node) -> int | Dim:
    """Return how many updates a scatter has."""
    return size_of(targets(node)[0].shape)


def padded(node: Node, sizes: Sizes) -> int:
    """Return how many keys are sorted."""
    return max(power(value(updates(node), sizes)), 2)


def keys_of(node: Node) -> Any:
    """Return under which key the order of a scatter's updates is kept: scatters by the same indices share it."""
    return "order", targets(node), tuple(node.shape[:len(targets(node))])


def place_keys(node: Node, *args: Any) -> Launch:
    """Return the launch that writes each update's place and number as a key; unused keys are the largest."""
    w = _Kernel(*args)
    indices = targets(node)
    total = w.own("total", "const i64")
    with _over(w, total):
        w.emit("u64 key = ~0ull;")
        with w.scope(f"if (t < {w.size(updates(node))})"):
            own = w.inner("(I)t")
            at = w.split(own, indices[0].shape)
            rows = [w.position(i, at, n) for i, n in zip(indices, node.shape, strict=False)]
            place = "(i64)0"
            for (row, _), n in zip(rows, node.shape, strict=False):
                place = f"({place} * {w.size(n)} + {row})"
            condition = " && ".join(c for _, c in rows if c) or "true"
            w.emit(f"if ({condition}) key = ((u64){place} << 32) | (u64)t;")
            w.emit(f"else {w.flag(node)}")
        out = w.param("key", keys_of(node), "u64* __restrict__", "p")
        w.emit(f"{out}[t] = key;")
    return w.launch(_blocks(lambda sizes: padded(node, sizes)),
                    arguments=lambda sizes: {"total": padded(node, sizes)})


def add_up(node: Node, *args: Any) -> Launch:
    """Return the launch in which every place takes its updates: their sum, the largest or the smallest."""
    w = _Kernel(*args)
    u, k = node.inputs[0], len(targets(node))
    name = node.prim.name
    wide = size_of(node.shape[k:])
    functor = {"scatter_max": "Max", "scatter_min": "Min"}.get(name, "Sum")
    kind = scalar.accumulated(scattered(node.dtype) if functor == "Sum" else node.dtype)
    first = "0" if functor == "Sum" else scalar.literal(worst(node.dtype, functor == "Max"), node.dtype)
    keys = w.param("key", keys_of(node), "const u64* __restrict__", "p")
    w.emit(f"const I wide = {w.size(wide)}, count = {w.size(updates(node))};")
    with _over(w, f"(i64){w.size(size_of(node.shape[:k]))} * wide"):
        w.emit("const I w = (I)(t % wide); const i64 place = t / wide;")
        w.scopes[-1].names |= {"w", "place"}
        w.emit("I low = 0;")
        w.emit(f"for (I high = count; low < high;) {{ const I m = low + (high - low) / 2; if ((i64)({keys}[m] >> 32) < "
               "place) low = m + 1; else high = m; }")
        w.emit(f"{kind} sum = ({kind}){first};")
        with w.scope(f"for (; low < count && (i64)({keys}[low] >> 32) == place; low++)"):
            at = w.inner(f"(I)({keys}[low] & 0xffffffffu)")
            rows = w.split(at, targets(node)[0].shape)
            if name == "gather_sum":  # the update is a row of another array
                row, condition = w.position(node.inputs[1], rows, u.shape[0])
                if condition:
                    w.emit(f"if (!({condition})) {{ {w.flag(node)} continue; }}")
                rows = (w.inner(f"(I){row}"),)
            idx = (*rows, *w.split("w", node.shape[k:]))
            w.emit(f"sum = {functor}::of(sum, ({kind}){w.value(u, idx)});")
        out = w.pointer(("to", node), node.dtype, write=True)
        text = scalar.rounded(f"({scalar.computed(node.dtype)})sum", node.dtype)
        w.emit(scalar.store(out, "t", text, node.dtype))
    w.writes.append(node)
    return w.launch(_blocks(lambda sizes: value(size_of(node.shape), sizes)))


def sorting(total: int) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return the passes that sort `total` keys, a power of two: kernel, blocks, and its numbers."""
    near = max(total // (2 * THREADS), 1)
    passes: list[tuple[str, int, tuple[int, ...]]] = [
        ("mg_sort_near", near, (total, 2, min(total, 2 * THREADS)))]
    run = 4 * THREADS
    while run <= total:
        gap = run // 2
        while gap > THREADS:
            passes.append(("mg_sort_far", -(-total // 2 // THREADS), (total, run, gap)))
            gap //= 2
        passes.append(("mg_sort_near", near, (total, run, run)))
        run *= 2
    return passes
