"""Loops on the device: NumPy's numbers, no work of the host between steps, and nothing done past the end."""

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy import loops
from minigrad.backends.cupy.launch_plan import Evaluate
from minigrad.backends.cupy.program import Program
from minigrad.graph import Graph
from minigrad.ops.control import parts
from minigrad.ops.loops import scan
from minigrad.ops.subgraph import placeholders
from minigrad.primitive import on_host
from minigrad.symbolic import Dim

from ...passes.programs import input_, node
from . import cupy_on_numpy, programs
from .failures import Failures
from .programs import close, newton, recurrent

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(7, 3)), RNG.normal(size=(3, 3))


def same(ours, want, rtol=1e-10):
    close([on_host(x) for x in optree.tree_leaves(ours)], [np.asarray(x) for x in optree.tree_leaves(want)], rtol)


def nested(w, x):
    def outer(h, r):
        h, _ = mg.scan(lambda c, k: (np.tanh(w @ c + r * k), None), h, r)
        return h, h.sum()

    h, seen = mg.scan(outer, np.ones(3), x)
    return h.sum() + np.sum(seen ** 2)


def along_the_batch(x):
    h, seen = mg.scan(lambda c, r: (c * r + 1, c), 0.5, mg.vmap(np.sum)(x))
    return h + np.sum(seen ** 2)


SCANS = {
    "carry and results": (lambda x: mg.scan(lambda c, r: (np.tanh(c + r), c * r), np.zeros(3), x), X),
    "one step": (lambda x: mg.scan(lambda c, r: (np.tanh(c + r), c * r), np.zeros(3), x), X[:1]),
    "no step": (lambda x: mg.scan(lambda c, r: (np.tanh(c + r), c * r), x.sum() + np.zeros(3), x), X[:0]),
    "backwards": (lambda x: mg.scan(lambda c, r: (c * 0.5 + r, (c, r.sum())), x[0], x, reverse=True), X),
    "numbers": (lambda n, x: mg.scan(lambda c, k: (c + k * n, c), 0, x), 3, np.arange(6)),
    "carries that stay and change places": (lambda x: mg.scan(
        lambda c, r: ((c[1], c[0], c[2]), c[0] + r), (x[0], x[1], x[2]), x), X),
    "fori_loop": (lambda x: mg.fori_loop(0, 5, lambda i, c: c * 0.5 + i, x), X),
    "sorts and sums by index": (lambda x, i: mg.scan(
        lambda c, r: ((np.zeros(4) * c[0]).at[i].add(r[:3]) + np.cumsum(c), c[i]), np.ones(4), x),
        X, np.array([2, 0, 2])),
    "gradient": (mg.value_and_grad(recurrent, argnums=(0, 1)), W, X),
    "gradients of examples": (mg.per_example_grad(recurrent, in_axes=(None, 0)), W, RNG.normal(size=(5, 7, 3))),
    "mean gradient": (mg.value_and_grad(mg.mean_loss(recurrent, (None, 0))), W, RNG.normal(size=(5, 7, 3))),
    "microbatches": (mg.value_and_grad(mg.microbatch(mg.mean_loss(recurrent, (None, 0)), 2)), W,
                     RNG.normal(size=(5, 7, 3))),
    "nested": (nested, W, X),
    "gradient of nested": (mg.grad(nested), W, X),
    "second derivative": (lambda w, x: mg.hvp(lambda w: recurrent(w, x), (w,), (w * 0 + 1,)), W, X),
    "length of the batch": (mg.value_and_grad(along_the_batch), X),
}


def run(f, args, times=3):
    """Compare a compiled function with NumPy's, several times on new numbers; return it."""
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for _ in range(times):
        same(ours(*args), numpys(*args))
        args = optree.tree_map(lambda a: a * 1.01 if getattr(a, "dtype", None) == np.float64 else a, args)
    return ours


def evaluated(program):
    """Return the nodes that CuPy evaluates, in a program and in those that it holds."""
    return [op.node.prim.name for op in program.plan.ops if isinstance(op, Evaluate)] + [
        name for held in program.held.values() for _, inner, _ in held.programs for name in evaluated(inner)]


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_part_of_one_graph(on_device, name):
    f, *args = SCANS[name]
    ours = run(f, args)
    assert set(evaluated(ours.entries[0].program)) <= {"chunked"}
    if "chunked" not in evaluated(ours.entries[0].program):
        assert "all of it is captured" in ours.stages[-1].after
        assert len(getattr(on_device, "graphs", [0])) == 1


@pytest.mark.parametrize("most", [1, 12, 40])
def test_a_long_scan_is_a_graph_of_some_steps(on_device, monkeypatch, most):
    monkeypatch.setattr(loops, "MOST", most)
    with Failures() as failures:
        for name, (f, *args) in SCANS.items():
            with failures.case(name):
                run(f, args)


def test_graphs_of_some_steps_are_launched_without_work_of_the_host(on_stand_in, monkeypatch):
    monkeypatch.setattr(loops, "MOST", 40)
    x = RNG.normal(size=(1001, 3))
    ours = run(lambda x: mg.scan(lambda c, r: (np.tanh(c + r), c * r), np.zeros(3), x), [x])
    unit, *others = sorted(on_stand_in.graphs, key=lambda g: -g.launches)
    assert len(others) <= 2
    steps = len(unit.calls) - 2  # beside what fills the tables, and counts
    assert 2 <= steps <= 40
    assert unit.launches == 3 * (1001 // steps) - 1, "all but the very first are launched as a graph"
    assert "not captured" not in ours.stages[-1].after


def test_products_of_a_step_read_weights_and_state_in_place(on_stand_in):
    """No step copies the weights or the state: it multiplies, and has one kernel for the rest."""
    def f(w, x):
        return mg.scan(lambda h, r: (np.tanh(h @ w + r), None), x[0], x)[0]

    w, x = RNG.normal(size=(8, 8)), RNG.normal(size=(6, 5, 8))
    run(f, [w, x])
    (graph,) = on_stand_in.graphs
    assert sum(call.name == "gemm" for call in graph.calls) == 6
    assert len(graph.calls) <= 6 * 2 + 4


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("most", [loops.MOST, 8])
def test_rows_of_a_batch_in_memory_for_more(stand_in, monkeypatch, reverse, most):
    """State, slices and results whose rows are rounded up: they lie as far apart as the run's own sizes say."""
    monkeypatch.setattr(cupy_on_numpy.POOL, "poison", 0xFF)  # NaN
    monkeypatch.setattr(loops, "MOST", most)
    n = Dim.new("nodes", rows=True)
    w, h, r = placeholders((3, 3), (n, 3), (n, 3))
    new = node("tanh", node("einsum", h, w, subscripts="ik,kj->ij")) + r
    sums = node("einsum", node("transpose", h, perm=(1, 0)), r, subscripts="ik,kj->ij")
    body = Graph((w, h, r), (new, new * r, sums))
    arguments = input_(3, 3), input_(n, 3), input_(5, n, 3)
    whole = scan(*arguments, body=body, counts=(1, 1), length=5, reverse=reverse)
    graph = Graph(arguments, tuple(parts(whole)))
    made = Program(graph, device=stand_in)
    assert made.plan.rounded == {n.symbol}
    rng = np.random.default_rng(0)
    for rows in (17, 18, 17, 18, 40, 2):
        arrays, sizes = [rng.normal(size=shape) for shape in ((3, 3), (rows, 3), (5, rows, 3))], {n.symbol: rows}
        close(programs.call(made, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-11)
    assert len(made._pools) == 3
    assert made.workspace_bytes({n.symbol: 17}) > 17 * 3 * 8 * 7


def test_steps_that_cuda_cannot_do_run_as_before(on_stand_in):
    ours = run(lambda x: mg.scan(lambda c, r: (np.linalg.solve(np.eye(3) * 4 + c * r, r), c.sum()), x[0], x), [X])
    assert "scan is evaluated by CuPy" in ours.stages[-1].after


def test_an_index_out_of_range_in_a_step_is_an_error(on_stand_in):
    ours = mg.compile(lambda x, i: mg.scan(lambda c, k: (c + x[k], c), 0.0, i), backend="cupy")
    x = np.arange(4.0)
    same(ours(x, np.array([1, -4, 3])), (np.float64(4.0), np.array([0.0, 1, 1])))
    for _ in range(3):
        with pytest.raises(IndexError, match=r"test_loops\.py"):
            ours(x, np.array([1, 4, 3]))
    same(ours(x, np.array([1, -4, 3])), (np.float64(4.0), np.array([0.0, 1, 1])))


# -- loops that end when the device says so ----------------------------------------------------------------


def collatz(n):
    return mg.while_loop(lambda c: c[0] != 1, lambda c: (np.where(c[0] % 2 == 0, c[0] // 2, 3 * c[0] + 1), c[1] + 1),
                         (n, 0))[1]


def within_a_scan(x):
    return mg.scan(lambda c, r: (newton(np.abs(r) + c)[0], newton(r * r + 1)[1]), np.float64(2), x[:, 0])


def with_a_scan(x):
    return mg.while_loop(lambda c: c.sum() < 50, lambda c: mg.scan(lambda h, r: (h + np.abs(r), None), c, x)[0] + 1,
                         np.abs(x[0]))


def of_whiles(n):
    return mg.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + collatz(c[0])), (1, 0))


WHILES = {
    "one value": (lambda x: mg.while_loop(lambda c: c.sum() < 50, lambda c: c * 2 + 1, np.abs(x[0])), X),
    "no step": (lambda x: mg.while_loop(lambda c: c.sum() < -1, lambda c: c * np.nan, np.abs(x[0])), X),
    "one step": (lambda x: mg.while_loop(lambda c: c.sum() < 1, lambda c: c + 9, np.abs(x[0])), X * 1e-3),
    "several values": (newton, np.float64(17.0)),
    "as many as eight": (lambda x: mg.while_loop(lambda c: c[1] < 8, lambda c: (c[0] * 1.5, c[1] + 1), (x, 0)), X),
    "hundreds of steps": (collatz, 27),
    "a batch": (mg.vmap(newton), np.array([0.3, 1.0, 2e9, 5.0])),
    "a batch of integers": (mg.vmap(collatz), np.array([27, 1, 2, 97])),
    "products": (lambda w, x: mg.while_loop(lambda h: np.abs(h).max() > 0.01, lambda h: np.tanh(h @ w) * 0.8, x),
                 W * 0.7, X),
    "forward mode": (lambda x: mg.jvp(lambda x: newton(x)[0], (x,), (x * 0 + 1,)), np.float64(3.0)),
    "within a scan": (within_a_scan, X),
    "around a scan": (with_a_scan, X),
    "around another": (of_whiles, 12),
    "a batch around another": (mg.vmap(of_whiles), np.array([12, 1, 5])),
    "microbatches": (mg.microbatch(lambda x: mg.vmap(newton)(x)[0], 2), np.array([0.3, 1.0, 2e9, 5.0, 7.0])),
}


@pytest.mark.parametrize("name", WHILES)
def test_loops_end_where_numpys_do(on_device, name):
    f, *args = WHILES[name]
    ours = run(f, args, 4)
    assert set(evaluated(ours.entries[0].program)) <= {"chunked"}


@pytest.mark.parametrize("most", [1, 10])
def test_loops_of_few_launches_at_a_time(on_device, monkeypatch, most):
    monkeypatch.setattr(loops, "MOST", most)
    with Failures() as failures:
        for name, (f, *args) in WHILES.items():
            with failures.case(name):
                run(f, args, 2)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 8, 9, 16, 31, 500])
def test_the_host_waits_a_few_times_only(on_stand_in, monkeypatch, steps):
    waits = []
    read = loops.Unrolled._control
    monkeypatch.setattr(loops.Unrolled, "_control", lambda self: waits.append(1) or read(self))
    ours = mg.compile(lambda n: mg.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 0.5 + c[0]), (0, 1.0)),
                      backend="cupy")
    want = 1.0
    for k in range(steps):
        want = want * 0.5 + k
    for _ in range(3):
        same(ours(steps), (np.int64(steps), np.float64(want)), 0)
        graphs = steps // loops.STEPS + 1  # the last test comes after the last step
        assert len(waits) <= np.log2(graphs) + 1 + graphs // loops.AHEAD
        waits.clear()


def test_steps_past_the_end_do_nothing(on_stand_in, monkeypatch):
    """They would divide by zero, read behind an array, and fail a check, if they did anything."""
    def f(x, i):
        def body(c):
            k, total, h = c
            return k + 1, total + x[i[k]] / (4 - k), h @ h / (4.0 - k)

        return mg.while_loop(lambda c: c[0] < 4, body, (0, 0.0, np.eye(3)))

    x, i = RNG.normal(size=6), np.array([5, 0, 3, 1])
    ours, numpys = mg.compile(f, backend="cupy"), mg.compile(f, backend="numpy")
    for on_stand_in.backwards in (False, True, False):
        have = ours(x, i)
        same(have, numpys(x, i), 1e-12)
        assert all(np.isfinite(on_host(a)).all() for a in have)
    with pytest.raises(IndexError, match=r"test_loops\.py"):
        ours(x, np.array([5, 0, 6, 1]))
    same(ours(x, i), numpys(x, i), 1e-12)


def test_a_loop_that_would_not_end_after_a_bad_index_ends(on_stand_in):
    ours = mg.compile(lambda x, k: mg.while_loop(lambda c: c < 3, lambda c: c + x[k], 0.0), backend="cupy")
    same(ours(np.array([1.0, 2.0]), np.int64(1)), np.float64(4.0))
    for _ in range(2):
        with pytest.raises(IndexError):
            ours(np.zeros(2), np.int64(2))
