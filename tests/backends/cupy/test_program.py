"""The executor, on the stand-in for the driver: arguments, arena, replay, threads, and what goes wrong."""

import threading
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy import launch_plan, program
from minigrad.backends.cupy.program import Program
from minigrad.errors import MinigradError
from minigrad.graph import PRIMITIVES, Graph
from minigrad.primitive import on_host
from minigrad.symbolic import Dim
from minigrad.transforms import custom

from ...passes.programs import input_, node
from . import cupy_on_numpy, programs
from .failures import Failures
from .programs import close, same

AXES = (None, 0, 0)


def step(precision="highest"):
    mean = mg.mean_loss(programs.softmax_loss, AXES)
    return (mg.compile(mg.value_and_grad(mean), backend="cupy", precision=precision),
            mg.compile(mg.value_and_grad(mean), backend="numpy"))


def test_one_program_serves_every_batch_size(on_device):
    ours, numpys = step()
    for batch in (1, 5, 300, 5, 5, 5, 300, 300):
        args = programs.network(batch)
        same(ours(*args), numpys(*args))
    assert len(ours.entries) == 1
    assert ours.entries[0].backend == "cupy"


def test_primitive_from_outside_runs_on_the_device(on_device):
    roll = mg.primitive("test_device_roll", lambda xp, x, *, shift: xp.roll(x, shift, axis=-1), lambda t, *, shift: t,
                        vjp=lambda g, out, x, *, shift: [roll(g, shift=-shift)], axes="... i~ -> ... i~",
                        linear="first")
    try:
        def loss(turn):
            return mg.value_and_grad(mg.mean_loss(lambda w, x: np.sum(np.tanh(turn(x * w)) * x), (None, 0)))

        compiled, plain = mg.compile(loss(lambda x: roll(x, shift=1)), backend="cupy"), loss(lambda x: np.roll(x, 1))
        rng = np.random.default_rng(0)
        w = rng.normal(size=3)
        for n in (5, 1, 300):
            x = rng.normal(size=(n, 3))
            same(compiled(w, x), plain(w, x))
        assert len(compiled.entries) == 1
    finally:
        del PRIMITIVES["test_device_roll"], custom._APPLIED["test_device_roll"]


def test_a_program_is_captured_on_its_second_run_and_then_replayed(on_stand_in):
    ours, _ = step()
    args = programs.network(6)
    ours(*args)
    assert on_stand_in.graphs == []
    for _ in range(3):
        ours(*args)
    (graph,) = on_stand_in.graphs
    assert graph.launches == 3
    assert any(node.name == "gemm" for node in graph.nodes)
    assert len(graph.first) == 1


def test_a_graph_serves_other_arguments_and_gives_other_results(on_device):
    ours, numpys = step()
    rng = np.random.default_rng(0)
    results = []
    for _ in range(5):
        params, x, y = programs.network(6)
        params = optree.tree_map(lambda a: a + rng.normal(size=a.shape), params)
        results.append((ours(params, x, y), numpys(params, x, y)))
    for have, want in results:
        same(have, want)


def test_arguments_need_not_be_contiguous_or_of_the_dtype(on_device):
    ours, numpys = step()
    params, x, y = programs.network(8)
    turned = {k: np.asfortranarray(v) for k, v in params.items()}
    same(ours(turned, np.repeat(x, 2, 0)[::2], y.astype("i4")), numpys(turned, x, y.astype("i4")))


def test_parts_that_cannot_be_captured_run_between_graphs(on_stand_in):
    def f(x):
        y = np.exp(np.sin(x)).sum(1)
        z = np.linalg.solve(np.eye(3) * 4 + x[:3], y[:3])
        return np.cumsum(np.tanh(z)), np.tanh(y) * z.sum()

    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    x = np.random.default_rng(0).normal(size=(4, 3))
    for _ in range(4):
        same(ours(x), numpys(x))
    assert len(on_stand_in.graphs) == 2
    (note,) = [s for s in ours.stages if s.name == "capture"]
    assert "solve is evaluated by CuPy" in note.after


def test_refused_captures_run_without_a_graph(on_stand_in, monkeypatch):
    def refuse(first, rest):
        raise MinigradError("cuStreamEndCapture failed (901)")

    monkeypatch.setattr(on_stand_in, "capture", refuse)
    ours, numpys = step()
    args = programs.network(6)
    for _ in range(4):
        same(ours(*args), numpys(*args))
    (stage,) = [s for s in ours.entries[0].program.stages if s.name == "capture"]
    assert "not captured: cuStreamEndCapture" in stage.after


def test_products_take_parts_of_decompositions(on_stand_in):
    a = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])

    def rebuilt(a):
        values, vectors = np.linalg.eigh(a)
        return vectors @ (values[:, None] * vectors.T)

    have = mg.compile(rebuilt, backend="cupy")(a)
    same([have], [a], 1e-12)


@pytest.mark.parametrize("f", [
    lambda x: mg.scan(lambda c, r: (np.tanh(c + r), c * r), np.zeros(3), x),
    lambda x: mg.while_loop(lambda c: c.sum() < 50, lambda c: c * 2 + 1, np.abs(x[0])),
    lambda x: mg.vmap(lambda r: mg.cond(r.sum() > 0, np.sin, np.exp, r))(x),
    lambda x: mg.microbatch(mg.mean_loss(lambda r: np.sum(np.tanh(r) ** 2)), 3)(x)])
def test_held_programs(on_device, f):
    x = np.random.default_rng(2).normal(size=(7, 3))
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for _ in range(3):
        same(ours(x), numpys(x))


def test_scans_over_ragged_axes(on_device):
    word = mg.axis("word")

    @mg.example
    class Words:
        x: mg.f64[word, 3]

    def loss(w, s):
        def step(h, x):
            h = np.tanh(w @ h + x)
            return h, h * x

        last, states = mg.scan(step, np.zeros(3), s.x)
        return np.sum(last) + np.sum(states)

    rng = np.random.default_rng(3)
    w, f = rng.normal(size=(3, 3)), mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for sizes in ((3, 0, 5), (0, 0), (2,)):
        batch = mg.batch([Words(rng.normal(size=(n, 3))) for n in sizes])
        same(ours(w, batch), numpys(w, batch), 1e-12)


def test_results_are_the_callers_own(on_stand_in):
    ours, _ = step()
    args = programs.network(6)
    first = optree.tree_leaves(ours(*args))
    kept = [on_host(a) for a in first]
    for _ in range(3):
        for a in optree.tree_leaves(ours(*args)):
            a[...] = 0
    close(map(on_host, first), kept, 0)


def test_more_arguments_than_one_launch_takes(on_stand_in):
    def f(params, x):
        for p in params:
            x = x * p
        return x

    rng = np.random.default_rng(0)
    params, x = list(rng.uniform(0.9, 1.1, (300, 2))), rng.normal(size=2)
    ours, numpys = (mg.compile(mg.grad(lambda p, x: f(p, x).sum()), backend=b) for b in ("cupy", "numpy"))
    for _ in range(4):
        params = [p + 0.01 for p in params]
        same(ours(params, x), numpys(params, x))
    (graph,) = on_stand_in.graphs
    assert len(graph.first) == 2


def test_small_results_share_an_allocation_and_large_ones_do_not(on_stand_in):
    """A small result keeps no more than 4 kB of others alive."""
    f = mg.compile(lambda x: (x.sum(), x * 2, x[:4] + 1, x.max()), backend="cupy")
    for _ in range(3):
        total, double, few, largest = f(np.arange(1000.0))
    buffers = [r.data.buffer for r in (total, double, few, largest)]
    assert buffers[0] is buffers[2] is buffers[3]
    assert buffers[1] is not buffers[0]
    assert buffers[0].nbytes <= 4096
    close([on_host(r) for r in (total, few, largest)], [499500.0, np.arange(1.0, 5), 999.0], 0)


def test_several_threads_at_once(on_device):
    ours, numpys = step()
    cases = [programs.network(batch) for batch in (2, 3, 4, 4)]
    want = [numpys(*args) for args in cases]
    failures = []

    def work(k):
        try:
            for _ in range(6):
                same(ours(*cases[k]), want[k])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_only_some_sizes_are_kept(on_stand_in):
    ours, _ = step()
    for batch in range(1, program.KEPT + 4):
        ours(*programs.network(batch))
    assert len(ours.entries[0].program._pools) == program.KEPT


def test_out_of_memory_releases_memory_and_allows_the_next_call(on_stand_in):
    ours, numpys = step()
    large, small = programs.network(3000), programs.network(5)
    ours(*small)
    on_stand_in.limit = 100_000
    ours.entries[0].program._pools.clear()
    with pytest.raises(MemoryError, match=r"do not fit into the GPU's memory.*mg\.microbatch"):
        ours(*large)
    assert on_stand_in.released
    assert not any(ours.entries[0].program._pools.values())
    on_stand_in.limit = 1 << 32
    same(ours(*small), numpys(*small))


def test_an_index_out_of_range_is_an_error(on_stand_in):
    f = mg.compile(lambda x, i: np.tanh(x[i]) + 1, backend="cupy")
    x = np.arange(4.0)
    np.testing.assert_allclose(on_host(f(x, np.array([0, -4, 3]))), np.tanh(x[[0, 0, 3]]) + 1)
    for bad in (4, -5):
        with pytest.raises(IndexError, match=r"test_program\.py"):
            f(x, np.array([0, bad]))
    np.testing.assert_allclose(on_host(f(x, np.array([1, 2]))), np.tanh(x[1:3]) + 1)
    g = mg.compile(lambda x, i: (np.zeros(3) * x[0]).at[i].add(x[:2]), backend="cupy")
    with pytest.raises(IndexError, match="an index is out of range"):
        g(x, np.array([0, 3]))


@pytest.mark.parametrize("f", [lambda x, k: x * (k + 1), lambda x, k: x.sum() * (k * k)])
def test_python_integers_out_of_range(f, on_stand_in):
    ours, x = mg.compile(f, backend="cupy"), np.array([1, 2], np.int8)
    same(ours(x, 3), f(x, 3))
    with pytest.raises(OverflowError, match=r"test_program\.py:\d+: .*out of bounds for int"):
        np.asarray(ours(x, 2**40))
    same(ours(x, 3), f(x, 3))


def test_scalars_and_plain_numbers(on_stand_in):
    f = mg.compile(lambda a, b: (a * b + 1, np.sin(b)), backend="cupy")
    for have, want in zip(f(2.0, np.float32(3)), (7.0, np.sin(np.float32(3))), strict=True):
        np.testing.assert_allclose(on_host(have), want, rtol=1e-6)


def test_stages_describe_launches(on_stand_in):
    ours, _ = step("tf32")
    ours(*programs.network(6))
    names = [s.name for s in ours.stages]
    assert names[-3:] == ["kernels", "arena", "capture"]
    (kernels,) = [s for s in ours.stages if s.name == "kernels"]
    assert "precision tf32" in kernels.note
    assert "__global__ void" in ours.source
    with pytest.raises(MinigradError, match="no precision 'low'"):
        mg.compile(np.sin, backend="cupy", precision="low")(np.ones(3))


def test_debug_nans_runs_node_by_node(on_stand_in):
    f = mg.compile(lambda x: np.log(x - 1), backend="cupy")
    with mg.debug_nans(), pytest.raises(FloatingPointError, match="log"):
        f(np.zeros(2))


def test_values_that_live_at_the_same_time_do_not_overlap(on_stand_in):
    for f, *args in programs.used().values():
        graph, _, sizes = programs.optimized(f, *args)
        made = Program(graph, device=on_stand_in)
        offsets, total = program.layout(made.plan, sizes)
        spans = {**made.plan.span, **{("partial", k): (k, k) for k in range(len(made.plan.ops))}}
        size = {**made.plan.bytes, **{("partial", k): getattr(op, "partials", lambda sizes: 0)
                                        for k, op in enumerate(made.plan.ops)}}
        places = [(*spans[key], at, at + size[key](sizes)) for key, at in offsets.items()]
        for i, (a, b, low, high) in enumerate(places):
            assert low % program.ALIGN == 0
            assert high <= total
            for c, d, low2, high2 in places[:i]:
                assert b < c or d < a or high <= low2 or high2 <= low


def test_large_programs_have_offsets_of_64_bits(on_stand_in, monkeypatch):
    monkeypatch.setattr(program, "_WIDE", 10)
    ours, numpys = step()
    args = programs.network(6)
    same(ours(*args), numpys(*args))
    assert any(text.startswith("typedef long long I;") for text in on_stand_in._spaces)


@pytest.mark.parametrize(("subscripts", "x", "y"), [
    ("ik,kj->ij", (3, 4), (4, 5)), ("k,kj->j", (4,), (4, 5)), ("ik,k->i", (3, 4), (4,)),
    ("zik,zkj->zij", (2, 3, 4), (2, 4, 5)), ("yzik,yzkj->yzij", (6, 2, 3, 4), (6, 2, 4, 5)), ("k,k->", (4,), (4,))])
def test_products_of_views(device, subscripts, x, y):
    """Transposed, sliced and repeated operands are multiplied as they lie in memory, or copied where they cannot be."""
    def views(shape):
        yield input_(*shape), lambda v: v
        n = len(shape)
        if n > 1:
            perm = (*range(n - 2), n - 1, n - 2)
            turned = input_(*(shape[a] for a in perm))
            yield turned, lambda v: node("transpose", v, perm=perm)
            yield input_(*shape[1:]), lambda v: node("expand", v, shape=shape, axes=(0,))
        wide = input_(*(2 * d for d in shape))
        yield wide, lambda v: node("slice", v, start=(1,) * n, stop=tuple(d + 1 for d in shape), step=(1,) * n)
        yield wide, lambda v: node("slice", v, start=(0,) * n, stop=v.shape, step=(2,) * n)
        yield input_(*shape), lambda v: node("flip", v, axes=(0,))

    rng = np.random.default_rng(0)
    jobs = []
    for a, f in views(x):
        for b, g in views(y):
            graph = Graph((a, b), (node("einsum", f(a), g(b), subscripts=subscripts),))
            jobs.append((graph, Program(graph, device=device)))
    programs.compile_ahead(device, [(made, [{}]) for _, made in jobs])
    with Failures() as failures:
        for graph, made in jobs:
            with failures.case(graph):
                arrays = [rng.normal(size=n.shape) for n in graph.inputs]
                for _ in range(2):
                    close(programs.call(made, arrays, {}), interpreters.evaluate(graph, arrays), 1e-12)


WAYS = ["loop", "unrolled", "vmapped", "microbatched"]


def test_compare_has_rows_of_host_and_device(on_device, tmp_path):
    params, x, y = programs.network(6)
    report = mg.compare(programs.softmax_loss, params, (x, y), backend="cupy", repeats=1, copies=3, progress=False)
    assert [row.name for row in report.rows] == [*WAYS, *(f"{name}, cupy" for name in WAYS)]
    assert [row.examples for row in report.rows] == [6, 3, 6, 6] * 2
    assert all(row.difference < 1e-9 for row in report.rows)
    assert all(row.peak_bytes > 0 for row in report.rows)
    assert "__global__" not in report.source
    assert report["vmapped, cupy"].speedup == pytest.approx(report["loop"].time / report["vmapped, cupy"].time)
    page = Path(report.to_html(tmp_path / "report.html")).read_text(encoding="utf-8")
    assert "the loop’s speed on the GPU" in page
    assert page.count('class="plot-line" stroke-dasharray') == 2 * 3


NODES, EDGES = mg.axis("node"), mg.axis("edge")


@mg.example
class Molecule:
    x: mg.f64[NODES, 4]
    src: mg.index(NODES)[EDGES]
    dst: mg.index(NODES)[EDGES]
    y: mg.f64[()]


def molecule(n, m, rng):
    return Molecule(x=rng.normal(size=(n, 4)), src=rng.integers(0, n, m), dst=rng.integers(0, n, m),
                    y=np.float64(rng.normal()))


def test_examples_of_different_size(on_device):
    def one(n, m):
        return molecule(n, m, rng)

    def loss(p, g):
        h = np.tanh(mg.segment_sum((g.x @ p["w"])[g.src], g.dst, g.x.shape[0]))
        return (np.mean(h, 0) @ p["v"] + h.max(0).sum() - g.y) ** 2

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(4, 6)), "v": rng.normal(size=6)}
    f = mg.value_and_grad(mg.mean_loss(loss, (None, 0)))
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for sizes in ([(3, 5), (7, 20), (1, 0), (5, 9)], [(2, 2)], [(3, 5), (7, 20), (1, 0), (5, 9)]):
        batch = mg.batch([one(*s) for s in sizes])
        for _ in range(2):
            same(ours(params, batch), numpys(params, batch))
    assert "all of it is captured" in ours.stages[-1].after
    assert len(ours.entries) == 1
    examples = [one(*s) for s in [(3, 5), (7, 20), (1, 1)]]
    report = mg.compare(loss, params, examples, backend="cupy", repeats=1, progress=False)
    assert [row.name for row in report.rows] == ["loop", "padded", "giant", "loop, cupy", "padded, cupy", "giant, cupy"]
    assert all(row.difference < 1e-9 for row in report.rows)


def ragged_step():
    """Return the gradient of a network of two layers on ragged batches, and what draws a batch of some sizes."""
    def loss(p, g):
        h = np.tanh(mg.segment_sum((g.x @ p["w"])[g.src], g.dst, g.x.shape[0]))
        h = np.tanh(h @ p["u"])
        return (np.mean(h, 0) @ p["v"] + h.max(0).sum() + (h @ p["v"]).sum() - g.y) ** 2

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(4, 6)), "u": rng.normal(size=(6, 6)), "v": rng.normal(size=6)}
    return mg.value_and_grad(mg.mean_loss(loss, (None, 0))), params, lambda sizes, seed: mg.batch(
        [molecule(n, m, np.random.default_rng(seed + k)) for k, (n, m) in enumerate(sizes)])


def test_batches_of_new_sizes_share_a_few_graphs(on_stand_in):
    f, params, draw = ragged_step()
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    rng = np.random.default_rng(1)
    drawn = [np.stack([rng.integers(20, 26, 9), rng.integers(30, 40, 9)], 1) for _ in range(14)]
    totals = {tuple(sizes.sum(0)) for sizes in drawn}
    assert len(totals) == 14, "no two batches have the same sizes"
    for k, sizes in enumerate(drawn):
        batch = draw(sizes, 100 * k)
        same(ours(params, batch), numpys(params, batch))
    found = ours.entries[0].program
    assert {s.rows for s in found.plan.rounded} == {True}
    assert len(found.plan.rounded) == 2
    assert len(found._pools) <= 4
    assert 1 <= len(on_stand_in.graphs) <= 4
    assert sum(g.launches for g in on_stand_in.graphs) >= 14 - 4


def test_evaluations_see_the_rows_of_a_batch_and_no_more(on_stand_in, monkeypatch):
    """Attention within examples, and a function that CUDA lacks, between kernels on memory for more rows."""
    monkeypatch.setattr(cupy_on_numpy.POOL, "poison", 0xFF)  # NaN
    nodes = mg.axis("node")

    @mg.example
    class Words:
        x: mg.f64[nodes, 4]

    def loss(p, e):
        h = np.tanh(e.x @ p)
        scores = h @ h.T
        weights = np.exp(scores - scores.max(1)[:, None])
        mixed = (weights / weights.sum(1)[:, None]) @ h
        return np.sum(mg.special.digamma(mixed ** 2 + 1)) + np.mean(mixed)

    rng = np.random.default_rng(0)
    f, params = mg.value_and_grad(mg.mean_loss(loss, (None, 0))), rng.normal(size=(4, 4))
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for sizes in ((5, 9, 3), (4, 9, 4), (6, 8, 3), (17,), (5, 9, 3)):
        batch = mg.batch([Words(x=rng.normal(size=(n, 4))) for n in sizes])
        same(ours(params, batch), numpys(params, batch), 1e-8)
    (entry,) = ours.entries
    assert entry.program.plan.rounded
    assert any("evaluated by CuPy" in note for note in entry.program.plan.notes)


def test_memory_behind_the_rows_of_a_batch_changes_no_bit(on_stand_in, monkeypatch):
    f, params, draw = ragged_step()
    ours = mg.compile(f, backend="cupy")
    small, large = draw([(20, 30), (5, 31), (9, 1)], 0), draw([(20, 30), (6, 32), (9, 2)], 50)

    def bits_of(batch):
        return [on_host(x).tobytes() for x in optree.tree_leaves(ours(params, batch))]

    want = bits_of(small)
    found = ours.entries[0].program
    assert all(np.isfinite(np.frombuffer(b)).all() for b in want)
    for poison in (0xFF, 0x00, 0x7F):  # NaN, 0, and numbers that overflow
        monkeypatch.setattr(cupy_on_numpy.POOL, "poison", poison)
        found._pools.clear()
        for _ in range(3):
            assert bits_of(small) == want
    bits_of(large)
    assert len(found._pools) == 1, "both batches use the same memory"
    assert bits_of(small) == want, "nor does a larger batch that came before"


def product_of(x, y):
    return node("einsum", x, y, subscripts="ik,kj->ij")


def turned(x):
    return node("transpose", x, perm=(1, 0))


@pytest.mark.parametrize(("f", "may"), [
    (lambda w, x: product_of(node("tanh", x), w), True),
    (lambda w, x: product_of(turned(node("tanh", x)), node("sin", x)), True),
    (lambda w, x: product_of(turned(product_of(x, w)), product_of(node("sin", x), w)), True),
    (lambda w, x: node("einsum", node("sum", x, axes=(1,)), node("sin", x), subscripts="k,kj->j"), True),
    (lambda w, x: product_of(w, turned(node("tanh", x))), False),
    (lambda w, x: product_of(product_of(node("tanh", x), turned(node("sin", x))), x), False)])
def test_products_that_may_be_larger_than_their_operands(stand_in, monkeypatch, f, may):
    """A stride that depends on the rows, or rows behind those that are added up, needs memory of the exact size."""
    monkeypatch.setattr(cupy_on_numpy.POOL, "poison", 0xFF)  # NaN
    n = Dim.new("nodes", rows=True)
    w, x = input_(3, 3), input_(n, 3)
    graph = Graph((w, x), (f(w, x),))
    made = Program(graph, device=stand_in)
    assert bool(made.plan.rounded) == may
    rng = np.random.default_rng(0)
    for rows in (17, 18, 17, 19, 40, 39, 2):
        arrays, sizes = [rng.normal(size=(3, 3)), rng.normal(size=(rows, 3))], {n.symbol: rows}
        close(programs.call(made, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12)
    assert len(made._pools) == (4 if may else 6)


@pytest.mark.parametrize("copied", [0, 150, 1 << 20])
def test_large_arguments_of_products_are_read_in_place(on_stand_in, monkeypatch, copied):
    """Each pair of addresses has its graph from its second call on; small arguments are copied for one graph."""
    monkeypatch.setattr(launch_plan, "COPIED", copied)
    ours = mg.compile(lambda w, v, x: np.tanh(np.tanh(x @ w) @ v), backend="cupy")
    rng = np.random.default_rng(0)
    x = cupy_on_numpy.asarray(rng.normal(size=(2, 5)))
    pairs = [tuple(cupy_on_numpy.asarray(rng.normal(size=s)) for s in ((5, 40), (40, 3))) for _ in range(2)]
    for k in range(8):
        w, v = pairs[k % 2]
        same(ours(w, v, x), np.tanh(np.tanh(x.get() @ w.get()) @ v.get()))
    assert len(on_stand_in.graphs) == (2 if copied < 1 << 20 else 1)
    needed = ours.workspace_bytes(*pairs[0], x)
    assert needed <= {0: 1600, 150: 1800}.get(copied, 5000)
    fresh = [tuple(cupy_on_numpy.asarray(rng.normal(size=s)) for s in ((5, 40), (40, 3))) for _ in range(12)]
    for w, v in fresh:
        same(ours(w, v, x), np.tanh(np.tanh(x.get() @ w.get()) @ v.get()))
    assert len(on_stand_in.graphs) == (2 if copied < 1 << 20 else 1)


@pytest.mark.parametrize("f", [
    lambda v, i: mg.segment_sum(v, i, 3), lambda v, i: mg.segment_sum(v, i, 3, null=-2),
    lambda v, i: np.sum(mg.segment_sum(v, i, 3)), lambda v, i: (v[i], v * 2.0)[1]])
def test_an_index_out_of_range_is_reported(f, on_stand_in):
    ours = mg.compile(f, backend="cupy")
    v, index = np.array([1.0, 2.0, 4.0]), np.array([0, 2, 1])
    same(ours(v, index), mg.compile(f, backend="numpy")(v, index))
    for bad in (-4, 3):
        with pytest.raises(IndexError, match=r"test_program\.py"):
            np.asarray(ours(v, np.array([0, bad, 1])))
    same(ours(v, index), mg.compile(f, backend="numpy")(v, index))
