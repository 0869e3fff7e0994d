"""The native backend: machine code computes what the reference evaluation does, however it is cut and shared out."""

import gc
import tracemalloc

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends, interpreters
from minigrad.backends.native.plan import launch_plan
from minigrad.backends.native.program import FEW, Program
from minigrad.backends.native.runtime import jit, threads
from minigrad.graph import PRIMITIVES, Graph, full
from minigrad.passes import run
from minigrad.symbolic import Dim
from tests.backends.native.machine_code import TARGETS, compile_ir
from tests.backends.test_numpy import empty_axes, results_are_the_callers_own, several_threads_at_once, softmax_loss
from tests.checks import program as program_of
from tests.passes.programs import arrays_for, input_, node, random_graph
from tests.passes.test_random import close

HELD = ("checkpoint", "chunked", "custom", "packed_scan", "scan", "switch", "tree_scan")


def build(graph: Graph) -> Program:
    return backends.build(run(graph.check())[0], "native")


@pytest.fixture
def finely_cut(monkeypatch):
    """Cut everything into blocks of few rows, and hand all of them to the pool."""
    monkeypatch.setattr(launch_plan, "BLOCK", 40)
    monkeypatch.setattr(launch_plan, "SERIAL", 0)


@pytest.mark.usefixtures("finely_cut")
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_random_programs(seed, gradient):
    graph, size = random_graph(300 + seed, gradient=gradient)
    after, _ = run(graph.check())
    program = backends.build(after, "native")
    for b, order in ((1, "C"), (2, "C"), (7, "F"), (300, "C"), (2, "C")):
        sizes = {size.symbol: b}
        arrays = arrays_for(graph, sizes, seed, order)
        close(program(arrays, sizes), interpreters.evaluate(after, arrays, sizes))


@pytest.mark.parametrize("f", [lambda x: np.tanh(x)[::-1], lambda x: np.sort(np.tanh(x), axis=1),
                               lambda x: mg.scan(lambda c, r: (c + np.sin(r), c * r), np.zeros(3), x)])
def test_programs_that_keep_memory_have_few_executables(f):
    compiled = mg.compile(mg.vmap(f), backend="native", tier="final")  # quick code ends with its executables
    for n in range(1, 30):
        compiled(np.ones((n, 4, 3)))
    (entry,) = compiled.entries
    assert entry.program.launch_plan.keeps
    assert len(entry.program._pools) == FEW


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_determinants_of_matrices_without_rows_are_1(dtype):
    x = np.zeros((5, 0, 0), dtype)
    det = mg.compile(mg.vmap(np.linalg.det), backend="native")
    parts = mg.compile(mg.vmap(lambda x: tuple(np.linalg.slogdet(x))), backend="native")
    for _ in range(3):
        used = [np.full((5,), 7, dtype) for _ in range(100)]  # memory that is not 1 as it lies
        del used
        np.testing.assert_array_equal(det(x), np.ones(5))
        for have, want in zip(parts(x), (1, 0), strict=True):
            np.testing.assert_array_equal(have, np.full(5, want))
    ones = mg.compile(lambda x: np.linalg.det(x), backend="native")
    assert (ones(np.eye(3) * 2), ones(np.zeros((0, 0)))) == (pytest.approx(8), 1)


def test_memory_of_sizes_that_make_room_is_free_without_the_collector():
    compiled = mg.compile(mg.vmap(lambda x: np.sum(np.sin(np.linalg.svd(np.sin(x))[1]))), backend="native",
                          tier="final")
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        used = []
        for _ in range(3):
            for n in range(100, 100 + 2 * FEW):
                compiled(np.ones((n, 12, 12)))
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
    operand = 100 * 12 * 12 * 8  # of the step of Python; each set of sizes has one
    assert used[2] - used[0] < FEW * operand  # two rounds make 4 * FEW sets


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_primitive_runs(name, dtype):
    prim = PRIMITIVES[name]
    for sample in prim.samples():
        if dtype == "f4" and any(isinstance(p, (Graph, tuple)) and name in HELD for p in sample.params.values()):
            continue  # the graphs that it holds are of float64
        arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in sample.arrays]
        graph = program_of(prim, arrays, sample.params)
        have = backends.build(graph, "native")(arrays, {})
        again = build(graph)(arrays, {})
        want = interpreters.evaluate(graph, arrays)
        rtol = 1e-6 if dtype == "f4" or name == "pow" else 1e-13
        if name in ("svd", "eigh", "pinv", "inv", "solve", "qr"):
            rtol *= 100
        for a, b, c in zip(have, again, want, strict=True):
            assert a.dtype == b.dtype == np.asarray(c).dtype
            np.testing.assert_allclose(a, c, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(b, c, rtol=rtol, atol=rtol)


def test_softmax_and_its_gradient_need_no_python():
    graph, size = softmax_loss("f4")
    program = build(graph)
    assert program.native
    assert "define" in program.llvm
    assert "np.exp(" in program.source
    for b in (1, 3, 1000):
        arrays = arrays_for(graph, {size.symbol: b})
        close(program(arrays, {size.symbol: b}), interpreters.evaluate(graph, arrays, {size.symbol: b}))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sums_are_as_accurate_as_numpy(dtype):
    size = Dim.new("B")
    x, y = input_(size, dtype=dtype), input_(size, 7, dtype=dtype)
    graph = Graph((x, y), (node("sum", x, axes=(0,)), node("sum", y, axes=(0,)), node("sum", y, axes=(1,))))
    rng = np.random.default_rng(0)
    n = 1_000_003
    arrays = [rng.uniform(size=n).astype(dtype), rng.uniform(size=(n, 7)).astype(dtype)]
    have = build(graph)(arrays, {size.symbol: n})
    want = [arrays[0].sum(), arrays[1].sum(0), arrays[1].sum(1)]
    exact = [a.astype(np.longdouble).sum(axis) for a, axis in ((arrays[0], 0), (arrays[1], 0), (arrays[1], 1))]
    for a, b, c in zip(have, want, exact, strict=True):
        unit = np.finfo(dtype).eps * np.max(c)
        assert np.max(np.abs(a - c)) <= np.max(np.abs(b - c)) + unit


@pytest.mark.usefixtures("finely_cut")
def test_results_do_not_depend_on_the_number_of_threads():
    graph, size = softmax_loss("f4")
    sizes = {size.symbol: 5_000}
    arrays = arrays_for(graph, sizes)
    program, before, found = build(graph), threads.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            threads.set_num_threads(n)
            found.append([a.tobytes() for a in program(arrays, sizes)])
    finally:
        threads.set_num_threads(before)
    assert found.count(found[0]) == len(found)


def test_results_own_their_memory():
    results_are_the_callers_own(build)


@pytest.mark.usefixtures("finely_cut")
def test_several_threads_at_once():
    several_threads_at_once(build)


def test_programs_run_after_an_error():
    x, i = input_(4), input_(2, dtype="i8")
    graph = Graph((x, i), (node("tanh", node("gather", x, i)),))
    program = build(graph)
    good = [np.arange(4.0), np.array([1, -1])]
    for bad in (4, -5, 2**62, -2**63):
        with pytest.raises(IndexError):
            program([np.arange(4.0), np.array([0, bad])], {})
        close(program(good, {}), interpreters.evaluate(graph, good))


def test_scalars_as_inputs():
    x, y = input_(), input_(2, 2)
    graph = Graph((x, y), (node("tanh", x), node("sum", y, axes=(0,))))
    for number in (0.5, np.float64(0.5), np.array(0.5)):
        have, sums = backends.build(graph, "native")([number, np.ma.array([[1.0, 2.0], [3.0, 4.0]])], {})
        np.testing.assert_allclose(have, np.tanh(0.5), rtol=1e-15)
        np.testing.assert_array_equal(sums, [4.0, 6.0])


def test_gathers_by_row_in_every_column():
    size = Dim.new("B")
    x = input_(size)
    rank = node("expand", node("iota", size=size), shape=(size, 3), axes=(1,))
    graph = Graph((x,), (node("gather", x, rank),))
    array = np.arange(5.0)
    (have,) = backends.build(graph, "native")([array], {size.symbol: 5})
    np.testing.assert_array_equal(have, np.tile(array[:, None], 3))


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_axes(rows):
    empty_axes(build, rows)


def test_unsupported_dtypes_run_in_python():
    a, b, c = input_(5, dtype="i4"), input_(5, dtype="?"), input_(5, dtype="f2")
    graph = Graph((a, b, c), (
        node("gcd", a, full(3, (5,), np.dtype("i4"))), node("logical_and", b, node("gt", a, a * a)), c * c + c,
        node("any", b, axes=(0,)), node("argmax", a, axis=0), node("where", b, a, a + a)))
    arrays = arrays_for(graph, {})
    program = build(graph)
    close(program(arrays, {}), interpreters.evaluate(graph, arrays))
    said = str(program.stages[-1])
    assert "float16" in said or "f16" in said
    assert "gcd" in said


def test_arrays_need_not_be_contiguous():
    graph, size = softmax_loss()
    sizes = {size.symbol: 6}
    arrays = [np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2] for a in arrays_for(graph, sizes)]
    arrays[1] = np.ascontiguousarray(arrays[1].T).T
    close(build(graph)(arrays, sizes), interpreters.evaluate(graph, arrays, sizes))


def test_kernels_compile_for_other_machines():
    graph, _ = softmax_loss("f4")
    for text in build(graph).texts:
        for name, machine in TARGETS.items():
            assert compile_ir(text, machine), name


def test_unavailable_backend_is_an_error(monkeypatch):
    monkeypatch.setattr(jit, "available", lambda: "llvmlite is not installed: pip install minigrad[native]")
    with pytest.raises(mg.MinigradError, match="pip install minigrad"):
        mg.compile(np.tanh, backend="native")
    assert "numpy" in repr(mg.compile(np.tanh))


@pytest.mark.parametrize("seed", range(10))
def test_outputs_are_final_when_they_are_announced(seed):
    graph, size = random_graph(400 + seed, gradient=True)
    program = build(graph)
    for n in (1, 2, 5):
        sizes = {size.symbol: n}
        arrays = arrays_for(graph, sizes)
        announced = {}

        def note(k, x, announced=announced):
            announced[k] = x, x.copy()

        outputs = program(arrays, sizes, note)
        assert list(announced) in ([], program.ready_order)
        for k, (x, then) in announced.items():
            assert x is outputs[k]
            np.testing.assert_array_equal(x, then)
        for a, b in zip(outputs, program(arrays, sizes), strict=True):
            np.testing.assert_array_equal(a, b)


def test_gradients_are_announced_layer_by_layer():
    f = mg.grad(mg.mean_loss(lambda w, x: np.sum(np.tanh(np.tanh(x @ w["first"]) @ w["second"])), in_axes=(None, 0)))
    w, x = {"first": np.ones((5, 6)), "second": np.ones((6, 7))}, np.ones((9, 5))
    compiled = mg.compile(f, backend="native")
    compiled(w, x)
    (entry,) = compiled.entries
    arrays, order = [*w.values(), x], []
    entry.program(arrays, entry.sizes([a.shape for a in arrays]), lambda k, _: order.append(k))
    assert order == entry.program.ready_order == [1, 0]


def test_single_numbers_share_a_kernel():
    def one(a, b):
        c = np.sin(a) * b
        return c + 1.0, np.exp(c) - a, c

    program = build(mg.trace(one)(0.5, 2.0))
    assert program.ways == ["kernel"]
    got = program([np.array(0.5), np.array(2.0)], {})
    np.testing.assert_allclose(got, one(0.5, 2.0), rtol=1e-15)


def test_single_numbers_on_both_sides_of_rows_have_kernels_of_their_own():
    def f(a, x):
        b = np.exp(a) + 1.0
        total = (x * b).sum()
        return np.sin(total) * b, x * total

    x = np.arange(5.0)
    program = build(mg.trace(f)(0.5, x))
    for got, want in zip(program([np.array(0.5), x], {}), f(0.5, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_numbers_of_sizes_are_computed_when_a_program_is_bound():
    gradient = mg.grad(mg.mean_loss(lambda w, x: np.exp(w * x), in_axes=(None, 0)))
    compiled = mg.compile(gradient, backend="native")
    for n in (1, 7):
        x = np.linspace(0.0, 1.0, n)
        np.testing.assert_allclose(compiled(0.5, x), np.mean(x * np.exp(0.5 * x)), rtol=1e-14)
    assert "bound" in compiled.entries[0].program.ways
