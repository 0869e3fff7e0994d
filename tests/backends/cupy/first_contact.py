"""Stages of a first run on a GPU, in the order in which later ones need earlier ones; none of them ends the run.

    python -m tests.backends.cupy.first_contact [FOLDER]

Each stage is printed as it ends. FOLDER/first.json has what the stages found, and is written after each.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optree

import minigrad as mg
from benchmarks import gpu as bench
from benchmarks import graphs
from minigrad.backends.cupy import blas, driver, gemm, libraries, nvrtc, program
from minigrad.backends.cupy.prelude import COMMON
from minigrad.primitive import on_host
from minigrad.symbolic import value

from . import programs
from .programs import close

BATCHES, GRAPHS, EXAMPLES, CALLS = (32, 8192), 4096, (10**6, 10**8), 200
PRODUCTS = ((1, 5, 7, 3), (1, 64, 32, 128), (3, 5, 7, 3), (1, 1, 7, 3), (1, 5, 1, 3), (2, 4, 6, 0), (1, 4, 6, 0),
            (1, 0, 6, 3), (1, 4, 0, 3))  # batch, rows, columns, inner


def find_libraries() -> str:
    """Return where NVRTC and cuBLAS are."""
    why = driver.missing()
    assert not why, why
    lt = libraries.find("cublasLt")
    return (f"NVRTC {nvrtc.version()}: {libraries.find('nvrtc')._name}, cuBLAS: {libraries.find('cublas')._name}, "
            f"cublasLt: {lt and f'{lt._name}, {lt.cublasLtGetVersion()}'}")


def launch_one_kernel() -> str:
    """Compile, load and launch the kernel that writes the table of pointers."""
    device = driver.current()
    start = time.perf_counter()
    function = device.function(COMMON, "mg_bind")
    took = time.perf_counter() - start
    room, cells = device.zeros(64), (ctypes.c_uint64 * program._CELLS)(*range(1, 9))
    device.launch(function, 1, 32, program.pack([cells, ctypes.c_uint64(room.ptr), ctypes.c_int(8)]))
    assert on_host(device.array((8,), np.dtype("u8"), room)).tolist() == list(range(1, 9))
    return f"{getattr(device, 'arch', 'the stand-in')}, compiled and loaded in {took:.2f} s"


def multiply() -> str:
    """Compare products of every transpose, dtype and shape with NumPy's, by each algorithm that cuBLAS proposes.

    Those over nothing must be zeros. Those with an epilogue may find no algorithm.
    """
    device, wrong, rng, found = driver.current(), [], np.random.default_rng(0), dict.fromkeys(blas.EPILOGUES, 0)
    room = device.allocate(blas.ROOM)
    for dtype, tolerance in (("f4", 1e-5), ("f8", 1e-12), ("f2", 1e-2)):
        for batch, m, n, k in PRODUCTS:
            x, y, bias = (rng.normal(size=size).astype(dtype) for size in ((batch, m, k), (batch, k, n), n))
            plain = np.matmul(x.astype("f8"), y.astype("f8"))
            for (tx, ty), epilogue in itertools.product(itertools.product((False, True), repeat=2), blas.EPILOGUES):
                if epilogue and not batch * m * n * k:
                    continue
                left, right, vector = (device.asarray(np.ascontiguousarray(v.swapaxes(1, 2) if t else v), v.dtype)
                                       for v, t in ((x, tx), (y, ty), (bias, False)))
                out = device.array((batch, m, n), np.dtype(dtype), device.allocate(max(batch * m * n, 1) * 8))
                product = blas.Product(device, blas.Spec(
                    np.dtype(dtype), "highest", (batch, m, n, k), (tx, max(m if tx else k, 1), m * k),
                    (ty, max(k if ty else n, 1), k * n), epilogue=epilogue))
                at = left.data.ptr, right.data.ptr
                algorithms = product.algorithms(*at, vector.data.ptr)
                found[epilogue] += len(algorithms)
                for algorithm in algorithms[:1 if not k else None]:
                    out.fill(np.nan)
                    try:
                        where = out.data.ptr, room.ptr, *at, vector.data.ptr
                        product.run(algorithm, *where) if k and batch * m * n else product(*where)
                        np.testing.assert_allclose(
                            on_host(out).astype("f8"), plain + bias.astype("f8") if epilogue else plain,
                            rtol=tolerance, atol=20 * tolerance)
                    except Exception as error:
                        wrong.append(f"{dtype} {(batch, m, n, k)} {tx} {ty}{epilogue and ' ' + epilogue}: "
                                     f"{' '.join(str(error).split())[:80]}")
    assert not wrong, f"{len(wrong)} products are wrong: {wrong[:12]}"
    return f"all products are right; algorithms: {found}"


def run_programs() -> str:
    """Run what the library is used for, launch by launch, captured and replayed."""
    import cupy

    lines, failed = [], 0
    for name, (f, *args) in programs.used().items():
        try:
            ours, want = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")(*args)
            given, times = optree.tree_map(cupy.asarray, args), []
            for _ in range(4):
                start = time.perf_counter()
                have = ours(*given)
                cupy.cuda.Device().synchronize()
                times.append(1e3 * (time.perf_counter() - start))
                close([on_host(x) for x in optree.tree_leaves(have)], [np.asarray(x) for x in optree.tree_leaves(want)],
                      2e-5 if "float32" in name else 1e-9)
            notes = ours.stages[-1].after
            failed += "not captured" in notes
            lines.append(f"{name}: first {times[0]:.0f} ms, last {times[-1]:.3f} ms; {notes[:160]}")
        except Exception as error:
            failed += 1
            lines.append(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    text = "\n".join(lines)
    assert not failed, f"{failed} programs failed\n{text}"
    return text


def where_the_time_goes(title: str, f: Callable[..., Any], args: Any, repeats: int = 20) -> str:
    """Return the time of each launch of a program on the device, alone."""
    import cupy

    step = mg.compile(f, backend="cupy")
    for _ in range(4):
        step(*args)
    made = step.entries[0].program
    (space,) = [s for pool in made._pools.values() for s in pool]
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()

    def took(call: Callable[[], Any], n: int) -> float:
        call()
        begin.record()
        for _ in range(n):
            call()
        end.record()
        end.synchronize()
        return 1e3 * cupy.cuda.get_elapsed_time(begin, end) / n

    start = time.perf_counter()
    for _ in range(CALLS):
        step(*args)
    host = 1e6 * (time.perf_counter() - start) / CALLS
    cupy.cuda.Device().synchronize()
    whole = took(lambda: step(*args), CALLS)
    kept = step(*args)  # the table points to these results, which single launches write into
    segments = [s for s in space.parts if isinstance(s, program.Segment)]
    alone = [round(took(g.launch, max(CALLS // 4, 1)), 1) for s in segments for g in s.graphs.values() if g is not None]
    labels = []
    for op in made.plan.ops:
        kind = type(op).__name__
        if kind == "ZeroTail":
            labels.append(f"zeros behind {op.key}")
        elif kind == "Launch" and (blocks := op.numbers(space.sizes)["blocks"]):
            names = ", ".join(n.prim.name for n in op.nodes)[:60]
            labels.append(f"{op.name}, {blocks} blocks: {names}")
        elif kind == "SortByPlace":
            labels += [f"sort: {name}" for name, _, _ in op.launches(space.sizes)]
        labels += [f"product {[value(n, space.sizes) for n in p.product.sizes]}"
                   for p in getattr(op, "products", [op]) if isinstance(p, gemm.Multiply)]
    calls = [c for s in segments for call in s.calls for c in (call.calls if isinstance(call, blas.Fork) else [call])]
    rows = [(took(call, repeats), label) for call, label in zip(calls, labels, strict=True)]
    del kept

    def total(kind: str) -> float:
        return sum(us for us, label in rows if label.startswith(kind))

    return "\n".join([
        f"{title}: {whole:.1f} µs a call on the device, {host:.1f} µs on the host; graphs alone {alone} µs",
        f"  {len(rows)} launches, {total(''):.0f} µs one by one, {total('sort'):.0f} in sorts, {total('product'):.0f} "
        "in products; the slowest:", *(f"  {us:8.1f} µs  {label}" for us, label in sorted(rows, reverse=True)[:40])])


def time_training_step(batch: int) -> str:
    return where_the_time_goes(f"training step, {batch}", bench.mlp_step, bench.mlp_data(batch))


def time_graphs() -> str:
    import cupy

    args = optree.tree_map(cupy.asarray, (graphs.parameters(), mg.batch(graphs.drawn(GRAPHS))))
    return where_the_time_goes(f"{GRAPHS} graphs", mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0))), args, 5)


def time_elementwise(n: int) -> str:
    f = mg.value_and_grad(mg.mean_loss(bench.scalar_loss, bench.AXES))
    args, step, peak = bench.scalar_data(n), mg.compile(f, backend="cupy"), bench.bandwidth()
    calls = bench.Contestant(lambda: step(*args))
    calls.queued(5)
    part = 8 * n / calls.queued(20) / peak
    return where_the_time_goes(f"elementwise, {n}", f, args) + f"\n  {part:.3f} of a copy's {peak / 1e12:.2f} TB/s"


def time_shuffled_batches() -> str:
    """Return the time of a step on batches of graphs that all differ in size."""
    import cupy

    examples, rng = graphs.drawn(GRAPHS), np.random.default_rng(0)
    step = mg.compile(mg.value_and_grad(mg.mean_loss(graphs.loss, (None, 0))), backend="cupy")
    start = optree.tree_map(cupy.asarray, graphs.parameters())
    size = min(128, GRAPHS)
    batches = [optree.tree_map(cupy.asarray, mg.batch([examples[i] for i in rng.integers(0, GRAPHS, size)]))
               for _ in range(max(CALLS // 5, 2))]
    warm = len(batches) // 8
    for b in batches[:warm]:
        step(start, b)
    cupy.cuda.Device().synchronize()
    begin = time.perf_counter()
    for b in batches[warm:]:
        step(start, b)
    cupy.cuda.Device().synchronize()
    return f"{1e3 * (time.perf_counter() - begin) / (len(batches) - warm):.2f} ms a step of {size} graphs"


def stages() -> dict[str, Callable[[], str]]:
    return {"libraries": find_libraries, "one kernel": launch_one_kernel, "matrix products": multiply,
            "programs": run_programs,
            **{f"time of a training step, {n}": functools.partial(time_training_step, n) for n in BATCHES},
            "time of graphs": time_graphs,
            **{f"time of the elementwise loss, {n}": functools.partial(time_elementwise, n) for n in EXAMPLES},
            "time of shuffled batches": time_shuffled_batches}


def main(folder: Path | None) -> int:
    """Run all stages; return how many failed."""
    began, found, failed = time.perf_counter(), {}, 0
    for name, stage in stages().items():
        start = time.perf_counter()
        try:
            found[name], word = stage(), "ok"
        except Exception as error:
            failed += 1
            found[name], word = traceback.format_exc(limit=-6), f"FAILED: {type(error).__name__}: {str(error)[:1500]}"
        now = time.perf_counter()
        print(f"[{now - began:6.1f} s] {name}: {word} ({now - start:.1f} s)", flush=True)
        if word == "ok":
            print("    " + found[name][:3000].replace("\n", "\n    "), flush=True)
        if folder is not None:
            (folder / "first.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
