"""The kernels' text, compiled for the processor, computes what the reference evaluation does."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import minigrad as mg
from minigrad import interpreters
from minigrad.backends.cupy.kernels import Launch
from minigrad.backends.cupy.launch_plan import Evaluate
from minigrad.backends.cupy.program import Program
from minigrad.errors import MinigradError
from minigrad.passes import run

from ...passes.programs import arrays_for, random_graph
from ...test_random_programs import batch_of
from ...test_random_programs import programs as whole_programs
from . import programs
from .failures import Failures, captures_succeed
from .programs import close, plan_of


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
def test_typical_programs(device, backwards):
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


def test_an_elementwise_loss_and_its_gradient_are_one_launch():
    made = plan_of(mg.value_and_grad(mg.mean_loss(lambda w, x: np.log(1 + np.exp(np.sin(w * x) * x)), (None, 0))),
                  np.float32(1), np.zeros(1000, "f4"))
    large = [op for op in made.ops if any(n.inputs[0].ndim for n in op.nodes if n.inputs)]
    assert len(large) == 1


def test_operations_without_kernels_are_evaluated_and_noted():
    made = plan_of(lambda x: np.exp(mg.special.digamma(x * 2)) + 1, np.ones(5))
    assert [type(op) for op in made.ops] == [Launch, Evaluate, Launch]
    assert "digamma" in made.notes[0]


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
