"""The NumPy backend: programs equal the reference evaluation, and own their results."""

import gc
import threading
import weakref

import numpy as np
import pytest

from minigrad import backends, interpreters
from minigrad.backends import workspace
from minigrad.backends.numpy import Program
from minigrad.graph import PRIMITIVES, Graph, full
from minigrad.interpreters import backward
from minigrad.passes import run
from minigrad.symbolic import Dim

from ..checks import program as program_of
from ..passes.programs import F8, arrays_for, input_, node, random_graph
from ..passes.test_random import close


def build(graph: Graph) -> Program:
    return backends.build(run(graph.check())[0])


def softmax_loss(dtype="f8"):
    """Return the graph of a mean softmax cross-entropy and its gradient, over a symbolic batch."""
    size = Dim.new("B")
    x, w, hot = input_(size, 20, dtype=dtype), input_(20, 10, dtype=dtype), input_(size, 10, dtype=dtype)
    z = node("tanh", node("einsum", x, w, subscripts="bi,ij->bj"))
    z = z - node("expand", node("max", z, axes=(1,)), shape=z.shape, axes=(1,))
    lse = node("log", node("sum", node("exp", z), axes=(1,)))
    loss = node("mean", lse - node("sum", z * hot, axes=(1,)), axes=(0,))
    (g,) = backward([loss], [full(1, (), x.dtype)], [w])
    return Graph((x, w, hot), (loss, g), ("x", "w", "hot"), ("loss", "g")), size


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_random_programs(seed, gradient, monkeypatch):
    monkeypatch.setattr(workspace, "BLOCK_BYTES", 4096)  # so that 300 rows are several blocks, the last one short
    graph, size = random_graph(300 + seed, gradient=gradient)
    after, _ = run(graph.check())
    program = backends.build(after)
    for b, order in ((1, "C"), (2, "C"), (7, "F"), (300, "C"), (2, "C")):
        sizes = {size.symbol: b}
        arrays = arrays_for(graph, sizes, seed, order)
        close(program(arrays, sizes), interpreters.evaluate(after, arrays, sizes))


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_primitive_runs(name):
    prim = PRIMITIVES[name]
    for sample in prim.samples():
        graph = program_of(prim, sample.arrays, sample.params)
        have = backends.build(graph)(sample.arrays, {})  # as it is, and after the passes
        again = build(graph)(sample.arrays, {})
        want = interpreters.evaluate(graph, sample.arrays)
        for a, b, c in zip(have, again, want, strict=True):
            assert a.dtype == b.dtype == np.asarray(c).dtype
            np.testing.assert_allclose(a, c, rtol=1e-12)
            np.testing.assert_allclose(b, c, rtol=1e-6 if name == "pow" else 1e-12, atol=1e-12)


def test_softmax_and_its_gradient_are_one_group():
    graph, size = softmax_loss()
    program = build(graph)
    assert program.source.count("def fused") == 1
    assert "np.exp(" in program.source
    space = {}
    exec(program.source, space)
    assert callable(space["main"])
    for b in (1, 3, 1000):
        arrays = arrays_for(graph, {size.symbol: b})
        close(program(arrays, {size.symbol: b}), interpreters.evaluate(graph, arrays, {size.symbol: b}))


def test_blocks_sum_as_exactly_as_numpy():
    size = Dim.new("B")
    x = input_(size, dtype="f4")
    graph = Graph((x,), (node("sum", node("square", node("sin", x)), axes=(0,)),))
    value = np.random.default_rng(0).normal(size=2_000_000).astype("f4")
    exact = np.sum(np.square(np.sin(value)).astype("f8"))
    (have,) = build(graph)([value], {size.symbol: len(value)})
    assert abs(have - exact) <= 2 * abs(np.sum(np.square(np.sin(value))) - exact) + 1e-7 * exact


def test_results_share_no_memory():
    results_are_the_callers_own(build)


def results_are_the_callers_own(build):
    size = Dim.new("B")
    x, w = input_(size, 4), input_(4)
    tanh = node("tanh", x)
    outputs = (x, tanh, tanh, node("transpose", tanh, perm=(1, 0)), node("reshape", x, shape=(4 * size,)),
               full(2.0, (size,), F8), node("const", value=np.arange(3.0)), w,
               node("expand", w, shape=(2, 4), axes=(0,)), node("sum", x, axes=(0,)),
               node("size", size=size, dtype=F8), node("iota", size=size))
    graph = Graph((x, w), outputs)
    program = build(graph)
    sizes = {size.symbol: 3}
    arrays = arrays_for(graph, sizes)
    first, second = program(arrays, sizes), program(arrays, sizes)
    close(first, interpreters.evaluate(graph, arrays, sizes))
    kept = [a.copy() for a in first]
    everything = [*arrays, *first, *second]
    for i, a in enumerate(first):
        assert isinstance(a, np.ndarray)
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in everything if b is not a), outputs[i]
    for a in second:
        a[...] = 0
    close(first, kept)
    close(program(arrays, sizes), kept)


def test_several_threads_run_one_program(monkeypatch):
    monkeypatch.setattr(workspace, "BLOCK_BYTES", 4096)
    several_threads_at_once(build)


def several_threads_at_once(build):
    graph, size = softmax_loss()
    program = build(graph)
    cases = []
    for seed in range(8):
        sizes = {size.symbol: 50 + 40 * (seed % 3)}
        arrays = arrays_for(graph, sizes, seed)
        cases.append((arrays, sizes, interpreters.evaluate(graph, arrays, sizes)))
    errors = []

    def work(arrays, sizes, want):
        try:
            for _ in range(30):
                close(program(arrays, sizes), want)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=case) for case in cases]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


def test_programs_run_again_after_an_error():
    x, i = input_(4), input_(2, dtype="i8")
    graph = Graph((x, i), (node("tanh", node("gather", x, i)),))
    program = build(graph)
    good = [np.arange(4.0), np.array([1, -1])]
    for _ in range(3):
        with pytest.raises(IndexError):
            program([np.arange(4.0), np.array([0, 9])], {})
        close(program(good, {}), interpreters.evaluate(graph, good))


@pytest.mark.parametrize("rows", [0, 1])
def test_axes_without_elements(rows):
    empty_axes(build, rows)


def empty_axes(build, rows):
    size = Dim.new("B")
    x, y = input_(size, 3), input_(3, 0)
    z = node("tanh", x) * node("expand", node("sum", y, axes=(1,)), shape=(size, 3), axes=(0,))
    graph = Graph((x, y), (z, node("sum", node("exp", z), axes=(0,)), node("einsum", x, y, subscripts="bi,ij->bj")))
    sizes = {size.symbol: rows}
    arrays = arrays_for(graph, sizes)
    close(build(graph)(arrays, sizes), interpreters.evaluate(graph, arrays, sizes))


def test_programs_keep_the_dtypes_of_numpy():
    a, b, c = input_(5, dtype="i4"), input_(5, dtype="?"), input_(5, dtype="f2")
    total = node("sum", node("cast", b, dtype=np.dtype("i2")), axes=(0,))
    graph = Graph((a, b, c), (
        node("floor_divide", a, full(3, (5,), np.dtype("i4"))), node("logical_and", b, node("gt", a, a * a)), c * c + c,
        total, node("any", b, axes=(0,)), node("argmax", a, axis=0), node("where", b, a, a + a),
        node("where", b, full(np.inf, (5,), F8), full(np.nan, (5,), F8))))
    arrays = arrays_for(graph, {})
    close(build(graph)(arrays, {}), interpreters.evaluate(graph, arrays))


def test_arrays_need_not_be_contiguous():
    graph, size = softmax_loss()
    sizes = {size.symbol: 6}
    arrays = [np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2] for a in arrays_for(graph, sizes)]
    arrays[1] = np.ascontiguousarray(arrays[1].T).T
    close(build(graph)(arrays, sizes), interpreters.evaluate(graph, arrays, sizes))


def test_programs_free_their_memory_and_keep_few_workspaces():
    graph, size = softmax_loss()
    program = build(graph)
    for b in range(1, 30):
        sizes = {size.symbol: b}
        program(arrays_for(graph, sizes), sizes)
    (arena,) = program._arenas
    assert len(arena.spaces) <= 8
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None


def test_stages_list_groups_and_buffers():
    graph, _ = softmax_loss()
    fuse, schedule = build(graph).stages
    assert "over rows B" in str(fuse)
    assert "bytes" in str(schedule)
