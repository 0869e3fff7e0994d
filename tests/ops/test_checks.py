"""Checks of indices: which are known to hold, which a rewrite must keep, and that readings make their own."""


import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad import passes
from minigrad.graph import PRIMITIVES, ArrayType, full
from minigrad.ops import checks, results
from minigrad.ops.constants import constant, iota
from minigrad.ops.control import placeholder
from minigrad.ops.index import gather, scatter_add

X, I = (ArrayType(shape, np.dtype(d)) for shape, d in (((4, 2), "f8"), ((3,), "i8")))  # noqa: E741


def program(f):
    return passes.run(mg.trace(f)(np.ones((4, 2)), np.arange(3)))[0]


def test_indices_known_to_be_in_range_need_no_check():
    x, i = placeholder(X), placeholder(I)
    known = [constant(np.array([0, -4, 3])), full(-4, (3,), np.dtype("i8")), iota(size=4),
             PRIMITIVES["expand"](iota(size=4), shape=(2, 4), axes=(0,))]
    assert not checks.checks_of(gather(x, k) for k in known)
    assert list(checks.checks_of([gather(x, i)])) == [(i, 4)]
    assert list(checks.checks_of([scatter_add(placeholder(I), i, i, shape=(5, 6))])) == [(i, 5), (i, 6)]
    for k in (constant(np.array([0, 4])), full(-5, (3,), np.dtype("i8")), iota(size=5)):
        assert list(checks.checks_of([gather(x, k)])) == [(k, 4)]


def test_view_of_an_index_is_checked_as_its_operand():
    x, i = placeholder(X), placeholder(I)
    column = PRIMITIVES["reshape"](i, shape=(3, 1))
    wide = PRIMITIVES["expand"](i, shape=(5, 3), axes=(0,))
    assert list(checks.checks_of([gather(x, column), gather(x, wide)])) == [(i, 4)]
    nothing = PRIMITIVES["expand"](i, shape=(0, 3), axes=(0,))
    assert list(checks.checks_of([gather(x, nothing)])) == [(nothing, 4)]  # no element of which is read


def test_remaining_gather_makes_its_check():
    x, i = placeholder(X), placeholder(I)
    read = gather(x, i)
    assert results.keep_checks([read], [read * 2.0])[0].prim.name == "mul"
    (tied,) = results.keep_checks([read], [x])
    assert tied.prim.name == "barrier"
    assert results.keep_checks([read], [tied]) == [tied]
    assert results.keep_checks([read], []) == []


@pytest.mark.parametrize(("f", "count"), [
    (lambda x, i: x[i], 0), (lambda x, i: mnp.sum(mg.segment_sum(x[i], i, 4) ** 2), 0),
    (mg.grad(lambda x, i: mnp.sum(x[i] ** 2)), 0), (mg.grad(lambda x, i: mnp.sum(x[i])), 0),
    (lambda x, i: mnp.sum(x[i] ** 0), 1), (lambda x, i: (x[i], x[i + 1], x * 2.0)[2], 2),
    (lambda x, i: mnp.sum(mg.segment_sum(x[:3], i, 4), axis=0) + mnp.sum(mg.segment_sum(x[:3], i, 4)), 1),
    (lambda x, i: (x[i, 0 * i], x * 2.0)[1], 2), (lambda x, i: (x[:, 0][mnp.zeros(3, int)], x * 2.0)[1], 0)])
def test_programs_check_only_indices_without_a_reader(f, count):
    graph = program(f)
    assert graph.count("in_range") == count
    assert len(graph.outputs) == 1


def test_check_depends_on_its_index_alone():
    """A tie is undone before the passes, so that it hides nothing from them."""
    def f(x, i):
        y = mnp.tanh(x)
        y[i]
        return mnp.sum(mnp.sum(y[:, None] * y[None], axis=-1), axis=1)

    def g(x, i):
        y = mnp.tanh(x)
        return mnp.sum(mnp.sum(y[:, None] * y[None], axis=-1), axis=1)

    assert program(f).count() == program(g).count() + 2  # the check and the tie


def test_loop_with_unused_gathers_is_reduced_to_its_checks():
    def f(x, i):
        def step(c, k):
            return c + 1.0, x[k]

        return mg.scan(step, 0.0, i)[0]

    run = mg.compile(f)
    assert run(np.ones((4, 2)), np.array([0, 3, -4])) == 3
    with pytest.raises(IndexError):
        run(np.ones((4, 2)), np.array([0, 4, 1]))


def _scan(x, k):
    return mg.scan(lambda c, row: ((c[0] + row, c[1] + 1), x[c[1]]), (0.0, k), x)[0][0]


def _while(x, k):
    step = lambda s: (s[0] + 1, s[1] + x[s[0]], s[2] + 1, x[s[2]])  # noqa: E731
    return mg.while_loop(lambda s: s[0] < 3, step, (0, 0.0, k, 0.0))[1]


def _until(x, k):
    def test(s):
        x[s[2]]  # in vain
        return s[0] < 2

    return mg.while_loop(test, lambda s: (s[0] + 1, s[1] + x[s[0]], s[2] + 1), (0, 1.0, k))[1]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("f", [_scan, _while, _until])
def test_loop_keeps_state_that_only_its_checks_depend_on(f, backend):
    """Each loop counts k up and reads at k in vain, three times: the check alone needs the counter."""
    for run in (mg.compile(f, backend=backend), mg.compile(mg.vmap(f, (None, 0)), backend=backend)):
        number = np.array if run.__wrapped__ is f else lambda k: np.array([k])
        for k in (0, -3):
            np.testing.assert_array_equal(run(np.ones(3), number(k)), 3.0)
        for k in (1, -4):
            with pytest.raises(IndexError):
                run(np.ones(3), number(k))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_check_of_a_shared_index_that_an_unused_result_of_a_scan_reads(backend):
    def f(x, i):
        return mg.scan(lambda c, row: (c + np.sum(row), row[i]), 0.0, x)[0]

    compiled = mg.compile(f, backend=backend)
    assert compiled(np.ones((4, 3)), np.int64(-3)) == 12.0
    with pytest.raises(IndexError, match="index 3 is out of range"):
        compiled(np.ones((4, 3)), np.int64(3))


def test_unused_values_are_not_computed():
    def f(x, i):
        mnp.exp(x[i] * 3.0)
        return x * 2.0

    graph = program(f)
    assert not graph.count("exp", "gather")
    assert graph.count("in_range") == 1


def test_branches_check_where_they_are_taken():
    def f(x, i, k):
        def branch():
            x[i]  # in vain
            return mnp.sum(x)

        return mg.cond(k > 0, branch, lambda: 0.0 * mnp.sum(x))

    for run in (f, mg.compile(f)):
        x, bad = np.ones((4, 2)), np.array([7, 0, 1])
        assert run(x, bad, np.array(-1)) == 0 if run is not f else True
        assert mg.compile(f)(x, np.arange(3), np.array(1)) == 8
    with pytest.raises(IndexError):
        mg.compile(f)(x, bad, np.array(1))
