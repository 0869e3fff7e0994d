"""Executables of programs with and without Python's steps."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends, blas
from minigrad.backends.native.bound_program import BoundProgram, Empty
from minigrad.backends.native.kernels import gemm_record
from minigrad.backends.native.kernels.gemm_choice import OTHERS
from minigrad.graph import Graph
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node


def test_executables_of_several_sizes():
    n = Dim.new("n")
    x = input_(n, 3)
    program = backends.build(Graph((x,), (node("sum", node("exp", x), axes=(0,)),)), "native")
    for k in (1, 4):
        executable = program.bind({n.symbol: k}, 1)
        assert isinstance(executable, BoundProgram)
        assert not executable.mixed
        (total,) = executable.run([np.zeros((k, 3))])
        assert total.tolist() == [k, k, k]


def test_loops_without_turns_run_in_numpy():
    n = Dim.new("n")
    x = input_(n, 3)
    program = backends.build(Graph((x,), (node("exp", x),)), "native")
    empty = program._executable({n.symbol: 0}, 1)
    assert isinstance(empty, Empty)
    assert empty.run([np.zeros((0, 3))])[0].shape == (0, 3)


def test_blas_has_one_thread_while_a_program_calls_it_from_several(monkeypatch):
    limits, limited, resources = [], blas.limited, gemm_record.resources
    monkeypatch.setattr(blas, "limited", lambda n: limits.append(n) or limited(n))
    # BLAS computes large products of matrices where registers have 32 bytes.
    monkeypatch.setattr(gemm_record, "resources", lambda threads: resources(threads)._replace(choice=OTHERS))
    rng = np.random.default_rng(0)
    a, b, v = (rng.normal(size=shape).astype(np.float32) for shape in ((900, 900), (900, 900), (900,)))

    def powers(a, b, v):
        return mg.scan(lambda v, _: (a @ v / 40, None), a @ b @ v, None, length=3)[0]

    for f, args, calls in ((lambda a, b: np.tanh(a @ b), (a, b), 1), (powers, (a, b, v), 1),
                           (lambda a, b: np.tanh(a @ b), (a[:50], b), 0), (np.exp, (a,), 0)):
        limits.clear()
        got = mg.compile(f, backend="native")(*args)
        assert limits == [1] * calls
        np.testing.assert_allclose(got, mg.compile(f, backend="numpy")(*args), rtol=1e-3, atol=1e-2)
