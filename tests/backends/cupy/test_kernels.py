"""The kernels' text, compiled for the processor, computes what the reference evaluation does."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.kernels import Launch
from minigrad.backends.cupy.launch_plan import Evaluate
from minigrad.backends.cupy.prelude import PRELUDE
from minigrad.backends.cupy.program import Program
from minigrad.errors import MinigradError
from minigrad.passes import run
from minigrad.primitive import on_host

from ...passes.programs import arrays_for, random_graph
from ...test_random_programs import batch_of
from ...test_random_programs import programs as whole_programs
from . import programs
from .failures import Failures, captures_succeed


def close(have, want, rtol):
    for h, w in zip(have, want, strict=True):
        w = np.asarray(w)
        assert h.dtype == w.dtype
        assert h.shape == w.shape
        scale = np.max(np.abs(w[np.isfinite(w)]), initial=0) + 1 if w.dtype.kind == "f" else 0
        np.testing.assert_allclose(h, w, rtol=rtol, atol=rtol * scale)


def with_signs_of(name, have, want):
    """Return results of `eigh` and `svd` with the signs that LAPACK gives the vectors: libraries differ in them."""
    def sign(k):
        return np.where(np.sum(have[k] * want[k], axis=-2, keepdims=True) < 0, -1, 1).astype(have[k].dtype)

    if name == "eigh":
        return have[0], have[1] * sign(1)
    if name == "svd":
        return have[0] * sign(0), have[1], have[2] * np.swapaxes(sign(0), -1, -2)
    return have


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_every_sample(device, dtype):
    jobs = []
    with Failures() as failures:
        for name, graph, arrays in programs.samples(dtype):
            for g in (graph, run(graph)[0]):
                with failures.case(name):
                    jobs.append((name, Program(g, device=device), graph, arrays))
        programs.compile_ahead(device, [(program, [{}]) for _, program, _, _ in jobs])
        for name, program, graph, arrays in jobs:
            with failures.case(name):
                want = interpreters.evaluate(graph, arrays)
                for _ in range(3):  # one by one; captured; again
                    have = with_signs_of(name.partition("[")[0], programs.call(program, arrays, {}), want)
                    close(have, want, 1e-10 if dtype == "f8" else 2e-5)


@pytest.mark.parametrize("backwards", [False, True])
def test_random_programs(device, backwards):
    device.backwards = backwards
    jobs = []
    for seed in range(20 * backwards, 20 * backwards + 20):
        graph, size = random_graph(300 + seed, gradient=seed % 2 == 0)
        after, _ = run(graph.check())
        jobs.append((seed, graph, after, size, Program(after, device=device)))
    programs.compile_ahead(device, [(program, [{size.symbol: b} for b in (1, 2, 7, 300)])
                                    for _, _, _, size, program in jobs])
    with Failures() as failures:
        for seed, graph, after, size, program in jobs:
            for b, order in ((1, "C"), (2, "C"), (7, "F"), (300, "C"), (300, "F"), (2, "C"), (2, "C")):
                with failures.case((seed, b, order)):
                    sizes = {size.symbol: b}
                    arrays = arrays_for(graph, sizes, seed, order)
                    close(programs.call(program, arrays, sizes), interpreters.evaluate(after, arrays, sizes), 1e-10)


def test_whole_random_programs(device):
    jobs = []

    @settings(max_examples=30, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(whole_programs())
    def collect(case):
        program, w, x = case
        args = w, batch_of(x, 5)
        for f in (mg.vmap(program.tree, (None, 0)), mg.value_and_grad(mg.mean_loss(program, (None, 0))),
                  mg.per_example_grad(program, in_axes=(None, 0))):
            graph, arrays, sizes = programs.optimized(f, *args)
            jobs.append((program, graph, arrays, sizes, Program(graph, device=device)))

    collect()
    programs.compile_ahead(device, [(made, [sizes]) for _, _, _, sizes, made in jobs])
    with Failures() as failures:
        for program, graph, arrays, sizes, made in jobs:
            with failures.case(program):
                want = interpreters.evaluate(graph, arrays, sizes)
                for _ in range(2):
                    close(programs.call(made, arrays, sizes), want, 1e-8)


@pytest.mark.parametrize("backwards", [False, True])
def test_what_the_library_is_used_for(device, backwards):
    device.backwards = backwards
    jobs = []
    for name, (f, *args) in programs.used().items():
        graph, arrays, sizes = programs.optimized(f, *args)
        jobs.append((name, graph, arrays, sizes, Program(graph, device=device)))
    programs.compile_ahead(device, [(program, [sizes]) for _, _, _, sizes, program in jobs])
    with Failures() as failures:
        for name, graph, arrays, sizes, program in jobs:
            with failures.case(name):
                want = interpreters.evaluate(graph, arrays, sizes)
                for _ in range(3):
                    close(programs.call(program, arrays, sizes), want, 2e-5 if "float32" in name else 1e-9)


def test_sums_of_products_over_nothing_are_zeros(device):
    """A batch whose examples have no edges gives a product over none: cuBLAS leaves its result unwritten."""
    def f(w, x):
        return np.einsum("bek,ej->bkj", x, w), np.exp(x[0].T @ w)

    graph, arrays, sizes = programs.optimized(f, np.ones((0, 3)), np.ones((2, 0, 4)))
    program = Program(graph, device=device)
    assert len(program.plan.products) == 2
    for _ in range(3):
        close(programs.call(program, arrays, sizes), [np.zeros((2, 4, 3)), np.ones((4, 3))], 0)


def test_products_without_rows_or_columns(device):
    def f(x, y):
        return np.tanh(x) @ np.sin(y)

    for m, n in ((0, 3), (3, 0), (0, 0)):
        graph, arrays, sizes = programs.optimized(f, np.ones((m, 2)), np.ones((2, n)))
        program = Program(graph, device=device)
        for _ in range(3):
            close(programs.call(program, arrays, sizes), [np.zeros((m, n))], 0)


def plan(f, *args):
    graph, _, _ = programs.optimized(f, *args)
    return Program(graph, device=Nowhere()).plan


class Nowhere:
    """No device: programs are planned, and never run."""

    xp = np

    def flag(self):
        return None, 0


def test_softmax_cross_entropy_is_one_launch():
    def loss(z, label):
        z = z - z.max()
        return np.log(np.exp(z).sum()) - z[label]

    z, y = np.zeros((32, 10), "f4"), np.zeros(32, int)
    made = plan(mg.value_and_grad(mg.mean_loss(loss, (0, 0))), z, y)
    together = [op for op in made.ops if isinstance(op, Launch) and {"max", "sum"} <= {n.prim.name for n in op.nodes}]
    assert len(together) == 1
    assert len(made.ops) <= 4


def test_an_elementwise_loss_and_its_gradient_are_one_launch():
    made = plan(mg.value_and_grad(mg.mean_loss(lambda w, x: np.log(1 + np.exp(np.sin(w * x) * x)), (None, 0))),
                  np.float32(1), np.zeros(1000, "f4"))
    large = [op for op in made.ops if any(n.inputs[0].ndim for n in op.nodes if n.inputs)]
    assert len(large) == 1


def test_functions_that_cuda_lacks_are_evaluated_and_named():
    made = plan(lambda x: np.exp(mg.special.digamma(x * 2)) + 1, np.ones(5))
    assert [type(op) for op in made.ops] == [Launch, Evaluate, Launch]
    assert "digamma" in made.notes[0]


def test_a_row_of_one_is_read_in_its_loop_and_outside(device):
    def f(x):
        total = np.exp(x).sum(1)
        return total * x[:, 0], np.tanh(x)[:, 0] + total

    graph, arrays, sizes = programs.optimized(f, np.arange(6.0).reshape(6, 1))
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )


@pytest.mark.parametrize("name", ["add", "max", "min"])
def test_long_scatters(device, name):
    rng = np.random.default_rng(0)
    n, places = 5000, 700
    index = rng.integers(-places, places, n)
    index[index % places == 3] = 4  # place 3 gets nothing
    values = rng.normal(size=(n, 3))
    values[7, 1] = np.nan

    def f(v, i):
        return getattr((np.zeros((places, 1)) * v[:1]).at[i], name)(np.tanh(v))

    graph, arrays, sizes = programs.optimized(f, values, index)
    program = Program(graph, device=device)
    want = interpreters.evaluate(graph, arrays, sizes)
    first = programs.call(program, arrays, sizes)
    close(first, want, 1e-12)
    device.backwards = True
    for a, b in zip(first, programs.call(program, arrays, sizes), strict=True):
        assert a.tobytes() == b.tobytes()  # the order of blocks and threads changes no bit


@pytest.mark.parametrize("shape", [(3, 100_000), (100_000, 3), (300_000,)])
def test_long_sums_add_up_in_short_chains(device, shape):
    """As `minigrad.ops.accumulators` says: equal terms one after the other lose a bit with every doubling."""
    axis = int(np.argmax(shape))
    x = np.full(shape, 0.1, "f4")
    graph, arrays, sizes = programs.optimized(lambda x: (x * 1).sum(axis), x)
    (have,) = programs.call(Program(graph, device=device), arrays, sizes)
    np.testing.assert_allclose(have, shape[axis] * float(np.float32(0.1)), rtol=4 * np.finfo("f4").eps)


@pytest.mark.parametrize("dtype", ["?", "f2", "i4", "f8"])
def test_elements_are_loaded_four_at_a_time_where_pointers_are_aligned(device, dtype):
    x, y = (np.random.default_rng(0).normal(size=(2, 5010)) * 9).astype(dtype)
    graph, _, sizes = programs.optimized(mg.vmap(lambda x, y: np.where(x > y, x, y)), x, y)
    program = Program(graph, device=device)
    assert "ld_pack" in program.source.replace(PRELUDE, "")
    for n, first in ((1, 0), (3, 0), (4, 0), (5, 1), (1024, 3), (5000, 0), (5000, 1), (5001, 2)):
        arrays = [program.asarray(a, a.dtype)[first:first + n] for a in (x, y)]
        (have,) = program(arrays, dict.fromkeys(sizes, n))
        np.testing.assert_array_equal(on_host(have), np.where(x > y, x, y)[first:first + n], strict=True)


def test_few_long_rows_are_shared_by_blocks(device):
    x = np.random.default_rng(0).normal(size=(2, 40_000))
    x[1, 33_333] = np.nan

    def f(x):
        top = x[:1].max(1)
        return x.sum(1), x.max(1), x.argmax(1), x[0].argmin(), np.exp(x[:1] - top[:, None]).sum(1), (x > 4).any(1)

    graph, arrays, sizes = programs.optimized(f, x)
    program = Program(graph, device=device)
    assert any(op.blocks(sizes) > 4 and op.partials(sizes) for op in program.plan.ops)
    close(programs.call(program, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12)


@pytest.mark.parametrize("dtype", ["?", "f2", "f4", "f8"])
def test_transposed_operands_go_through_tiles(device, dtype):
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=s).astype(dtype) for s in ((40, 70), (70, 40), (3, 33, 45)))

    def f(x, y, z):
        flat = y == x.T, np.where(x.T > 0, y, x.T), x.T[:, :35] == y[::2, :35].repeat(2, 0)
        return *flat, z.transpose(0, 2, 1) > z[:, :1, :1], z.transpose(2, 1, 0) == z[0].T[:, :, None]

    graph, arrays, sizes = programs.optimized(f, x, y, z)
    program = Program(graph, device=device)
    assert sum("[32][33]" in op.body for op in program.plan.ops) == 3
    close(programs.call(program, arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 0)


def test_random_bits_are_those_of_the_processor(device):
    key = np.array([[5, 9], [1, 2]], np.uint32)
    graph, arrays, sizes = programs.optimized(mg.vmap(lambda k: mg.random.bits(k, (1001,))), key)
    (have,) = programs.call(Program(graph, device=device), arrays, sizes)
    np.testing.assert_array_equal(have, interpreters.evaluate(graph, arrays, sizes)[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_long_cumulative_sums(device, axis):
    x = np.random.default_rng(0).normal(size=(3, 1000, 2)).swapaxes(1, axis)
    graph, arrays, sizes = programs.optimized(lambda x: np.cumsum(np.sin(x), axis), x)
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "i8", "f2", "f4", "f8"])
def test_long_cumulative_extremes(device, axis, dtype):
    x = np.random.default_rng(0).normal(size=(700, 2)).swapaxes(0, axis) * 30
    if dtype[0] == "f":
        x[(slice(None),) * axis + (slice(0, 300),)] = np.nan
        x[(slice(None),) * axis + (290,)] = [-np.inf, 5]
        x = x * (x != 0)
    x = np.abs(x).astype(dtype) if dtype == "u4" else (x > 20) if dtype == "?" else x.astype(dtype)
    def f(x):
        return [u.accumulate(x, axis) for u in (np.maximum, np.minimum, np.fmax, np.fmin)]

    graph, arrays, sizes = programs.optimized(f, x)
    for have, want in zip(programs.call(Program(graph, device=device), arrays, sizes), f(x), strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


def test_half_precision_is_rounded_after_each_operation(device):
    x = np.random.default_rng(0).normal(size=(40, 30)).astype("f2")
    graph, arrays, sizes = programs.optimized(lambda x: (np.tanh(x) * x + 1, np.exp(x).sum(1), x @ x[:30]), x)
    have, want = (
        programs.call(Program(graph, device=device), arrays, sizes),
        interpreters.evaluate(graph, arrays, sizes),
    )
    np.testing.assert_array_equal(have[0], want[0])
    close(have[1:], want[1:], 3e-3)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u4", "i8", "u8"])
def test_integers_are_numpys(device, dtype):
    low, high = max(np.iinfo(dtype).min, -100), 100
    x, y = np.random.default_rng(1).integers(low, high, (2, 500)).astype(dtype)
    y[:9] = 0
    shift = y % np.asarray(70, dtype)

    def f(x, y, s):
        return [x // y, x % y, x * y, x - y, np.abs(x), np.sign(x), np.gcd(x, y), np.lcm(x % 10, y % 10),
                np.left_shift(x, s), np.right_shift(x, s), x & y, x | y, x ^ y, ~x, np.maximum(x, y), x < y,
                x.reshape(50, 10).sum(1, dtype=x.dtype), x.reshape(50, 10).max(1)]

    graph, arrays, sizes = programs.optimized(f, x, y, shift)
    with np.errstate(all="ignore"):
        want = interpreters.evaluate(graph, arrays, sizes)
    for have, w in zip(programs.call(Program(graph, device=device), arrays, sizes), want, strict=True):
        np.testing.assert_array_equal(have, w)


def test_what_floats_do_at_their_ends(device):
    ends = np.array([0.0, -0.0, 1.5, -1.5, 3.0, np.inf, -np.inf, np.nan, 1e-310, 7.0, -7.0])
    x, y = (a.ravel() for a in np.meshgrid(ends, ends))

    def f(x, y):
        return [x // y, x % y, np.maximum(x, y), np.minimum(x, y), np.sign(x), np.logaddexp(x, y), x ** y, np.rint(x),
                np.abs(x), x.reshape(11, 11).max(1), x.reshape(11, 11).argmax(1), x.reshape(11, 11).argmin(0),
                np.isnan(x), np.isinf(x), np.isfinite(x), np.nextafter(x, y), x < y, mg.special.xlogy(x, y)]

    graph, arrays, sizes = programs.optimized(f, x, y)
    with np.errstate(all="ignore"):
        want = interpreters.evaluate(graph, arrays, sizes)
    for k, (have, w) in enumerate(zip(programs.call(Program(graph, device=device), arrays, sizes), want, strict=True)):
        np.testing.assert_allclose(have, w, rtol=1e-14, atol=0, err_msg=str(k))
        if have.dtype.kind == "f" and k < 10 and k != 6:
            np.testing.assert_array_equal(np.signbit(have)[~np.isnan(w)], np.signbit(w)[~np.isnan(w)], err_msg=str(k))


def test_leaves_and_views_as_results(device):
    x = np.arange(12.0).reshape(3, 4)

    def f(x):
        y = np.tanh(x)
        return {"same": x, "twice": (y, y), "turned": y.T, "flat": y.ravel(), "constant": np.full(3, 2.0) + 0 * x[:, 0],
                "own": np.ones(4) * 3, "counter": np.arange(5), "row": y[1], "back": y[::-1]}

    graph, arrays, sizes = programs.optimized(f, x)
    close(
        programs.call(Program(graph, device=device), arrays, sizes), interpreters.evaluate(graph, arrays, sizes), 1e-12
    )


def test_results_share_no_memory(stand_in):
    def f(x):
        y = np.tanh(x)
        return x, (y, y), y.T, y.ravel(), np.ones(4) * 3

    graph, arrays, sizes = programs.optimized(f, np.ones((3, 4)))
    program = Program(graph, device=stand_in)
    arrays = [program.asarray(a, a.dtype) for a in arrays]
    first, second = program(arrays, sizes), program(arrays, sizes)
    everything = [*arrays, *first, *second]
    for a in (*first, *second):
        assert not any(stand_in.xp.shares_memory(a, b) for b in everything if b is not a)


def test_copies_and_updates_share_launches():
    def step(params, x, y):
        value, gradient = mg.value_and_grad(mg.mean_loss(programs.softmax_loss, (None, 0, 0)))(params, x, y)
        return value, {k: params[k] - 0.1 * gradient[k] for k in params}

    made = plan(step, *programs.network(8))
    launches = [op for op in made.ops if isinstance(op, Launch)]
    updates = [op for op in launches if sum(n.prim.name == "sub" for n in op.nodes) >= 4]
    assert updates == [launches[-1]]
    assert sum(n.prim.name == "input" for n in launches[0].nodes) >= 2


def test_failures_of_cases_are_reported_together():
    failures = Failures()
    for name, error in (("a", None), ("b", ValueError(1)), ("c", TypeError(2))):
        with failures.case(name):
            if error:
                raise error
    with pytest.raises(pytest.fail.Exception, match=r"(?s)2 of 3 cases failed.*b: ValueError: 1.*c: TypeError: 2"):
        failures.__exit__(None)


def test_a_capture_that_is_refused_fails_a_test(stand_in, monkeypatch):
    def refuse(self, *args):
        raise MinigradError("cuStreamEndCapture failed (901)")

    def run_twice():
        with captures_succeed(stand_in):
            for _ in range(2):
                programs.call(program, arrays, sizes)

    monkeypatch.setattr(type(stand_in), "capture", refuse)
    f, *args = programs.used()["training step"]
    graph, arrays, sizes = programs.optimized(f, *args)
    program = Program(graph, device=stand_in)
    with pytest.raises(AssertionError, match="not captured"):
        run_twice()
