"""Kernels of random bits and of running totals."""

from __future__ import annotations

from ...combiners import combiner_of
from ...graph import Node
from ...ops.segments import segment_cumsum
from ...ops.sort import cumfmax, cumfmin, cummax, cummin, cumsum
from ...symbolic import Dim, size_of, value
from . import cuda_expr
from .codegen import Key, Memory
from .kernels import THREADS, Kernel, Launch, Sizes, blocks_for, power_of_two


def random_bits(node: Node, memory: Memory) -> Launch:
    """Return the launch that writes a `random_bits` node: each thread computes the four words of a counter."""
    w = Kernel(memory)
    (key,), p = node.inputs, node.params
    lead, n = key.shape[:-1], size_of(p["shape"])
    count = w.size(n)
    w.emit(f"const I count = {count}, quads = (count + 3) / 4;")
    with w.grid_loop(f"{w.size(size_of(lead))} * quads"):
        w.emit("const I quad = t % quads, line = t / quads;")
        w.scopes[-1].names |= {"quad", "line"}
        place = w.split("line", lead)
        k0, k1 = (w.value(key, (*place, word)) for word in ("0", "1"))
        w.emit(f"const Words words = philox((unsigned)quad, (unsigned)((u64)quad >> 32), {p['stream']}u, 0u, "
               f"{k0}, {k1});")
        out = w.result(node)
        w.emit(f"for (int j = 0; j < 4; j++) if ((i64)quad * 4 + j < count) {out}[(i64)line * count + (i64)quad * 4 + "
               "j] = words.w[j];")
    return w.launch(lambda sizes: {"blocks": blocks_for(value(size_of(lead), sizes) * -(-value(n, sizes) // 4))})


# -- running totals ----------------------------------------------------------------------------------------

TOTALS = frozenset({cumsum, cummax, cummin, cumfmax, cumfmin, segment_cumsum})
_CHUNK = 4096  # elements of a line that a block takes at least
_CHUNKS = 4096  # of a line, at most


def _axis(node: Node) -> int:
    axis: int = node.params.get("axis", 0)
    return axis


def lines(node: Node) -> int | Dim:
    """Return the number of running totals."""
    return size_of(node.shape[:_axis(node)] + node.shape[_axis(node) + 1:])


def chunks(node: Node, sizes: Sizes) -> tuple[int, int]:
    """Return the number of chunks of a line, and their length."""
    n = value(node.shape[_axis(node)], sizes)
    length = _CHUNK * max(-(-n // (_CHUNK * _CHUNKS)), 1)
    return max(-(-n // length), 1), length


def running(node: Node, totals: Key, write_totals: bool, memory: Memory) -> Launch:
    """Return the launch that writes the total of each chunk, or the running total from these.

    Threads take consecutive lines if their elements are neighbours in memory, and else the elements of one line. The
    running total of a segment begins anew where the ids of neighbours differ.
    """
    w = Kernel(memory)
    (x, *ids), axis = node.inputs, _axis(node)
    by, kind = combiner_of(node), cuda_expr.accumulated(node.dtype)
    functor, first = by.functor, f"({kind}){cuda_expr.identity(by, node.dtype)}"
    if ids:
        functor, kind, first = f"Anew<{functor}>", f"Since<{kind}>", f"{{{first}, false}}"
    before, inner = node.shape[:axis], node.shape[axis + 1:]
    across = power_of_two(size_of(inner), 32)
    along = power_of_two(node.shape[axis], THREADS) if across == 1 else THREADS // across
    columns = THREADS // along
    back = node.params.get("reverse", False)
    position = "count - 1 - at" if back else "at"
    scan = f"scan<{along}, {across}>"
    w.emit(f"const I lines = {w.size(lines(node))}, count = {w.size(node.shape[axis])};")
    many, length = w.own("chunks"), w.own("length")
    w.emit(f"const int r = threadIdx.x {f'/ {across}' if across > 1 else f'% {along}'};")
    w.emit(f"const int c = threadIdx.x {f'% {across}' if across > 1 else f'/ {along}'};")
    w.emit(f"const I items = (lines + {columns - 1}) / {columns} * {many};")
    room = w.param("key", totals, f"{'' if write_totals else 'const '}{kind}* __restrict__", "p")
    with w.scope("for (I item = blockIdx.x; item < items; item += gridDim.x)", ["item"]):
        w.emit(f"const I chunk = item % {many}, line = item / {many} * {columns} + c;")
        w.emit(f"const I start = chunk * {length}, end = count - start < {length} ? count : start + {length};")
        w.emit(f"Acc<{functor}, {kind}> carry{{{first}}};")
        w.emit(f"{kind} total; int turns = 0;")
        w.scopes[-1].names |= {"chunk", "line"}
        if not write_totals:
            w.emit(f"const I each = (chunk + {along - 1}) / {along}, next = (r + 1) * each;")
            with w.scope("if (line < lines) for (I k = r * each; k < chunk && k < next; k++)"):
                w.emit(f"carry.take({room}[k * lines + line]);")
                w.emit("if (++turns % RUN == 0) carry.fold();")
            w.emit(f"if (chunk) {{ {scan}(carry.value(), carry, total); carry.reset(total); }}")
        with w.scope(f"for (I low = start; low < end; low += {along})", ["low"]):
            w.emit("const I at = low + r;")
            w.emit("const bool live = line < lines && at < end;")
            w.scopes[-1].names |= {"at", "live"}
            w.emit(f"{kind} v = carry.none;")
            outside = w.split("line", before + inner)
            with w.scope("if (live)"):
                own = w.inner(position)
                term = w.value(x, (*outside[:axis], own, *outside[axis:]))
                if ids:
                    one, other = (w.value(ids[0], (i,)) for i in (
                        own, w.inner(f"at == 0 ? {own} : {own} {'+' if back else '-'} 1")))
                    term = f"{{{term}, at == 0 || {one} != {other}}}"
                w.emit(f"v = {term};")
            if write_totals and not ids:
                w.emit("carry.take(v);")
            else:
                w.emit(f"v = {scan}(v, carry, total);")
                if not write_totals:
                    out = w.result(node)
                    text = cuda_expr.cast(f"carry.with(v){'.v' if ids else ''}", node.dtype)
                    offset = w.linear((*outside[:axis], f"({position})", *outside[axis:]), node.shape)
                    w.emit(f"if (live) {cuda_expr.store(f'{out}[{offset}]', text, node.dtype)}")
                w.emit("carry.take(total);")
            w.emit("if (++turns % RUN == 0) carry.fold();")
        if write_totals:
            w.emit("total = carry.value();" if ids else f"{scan}(carry.value(), carry, total);")
            w.emit(f"if (line < lines && r == 0) {room}[chunk * lines + line] = total;")

    def numbers(sizes: Sizes) -> dict[Key | str, int]:
        count, length = chunks(node, sizes)
        blocks = blocks_for(-(-value(lines(node), sizes) // columns) * count, each=1)
        return {"blocks": 0 if write_totals and count == 1 else blocks, "chunks": count, "length": length}

    return w.launch(numbers)
