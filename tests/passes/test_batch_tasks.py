"""The operations of a literal graph: equal keys, sums of chains, and the order of groups."""

import numpy as np

import minigrad as mg
from minigrad.passes.batch_tasks import Program

f64 = mg.f64


def program(f, *types):
    return Program(mg.trace(f)(*types))


def groups(p):
    return [sorted(t.node.prim.name for t in group) for group in p.in_order()]


def test_groups_follow_their_average_depth():
    """The two cosines differ in depth; both wait until they are one group, as both are needed last."""
    p = program(lambda x, y: [np.cos(np.sin(np.exp(x))), np.cos(np.exp(y))], f64[2], f64[2])
    assert groups(p) == [["exp", "exp"], ["sin"], ["cos", "cos"]]


def test_depth_counts_operations_and_not_reads():
    p = program(lambda x: np.sin(x[0]) + np.cos(np.sin(x[1])), f64[3])
    assert sorted((t.node.prim.name, t.depth) for t in p.tasks.values() if t.node.prim.name != "reshape") == [
        ("add", 4), ("cos", 3), ("sin", 2), ("sin", 2)]


def test_chains_of_one_kind_are_sums():
    p = program(lambda xs: sum(np.sin(x) for x in xs), [f64[2]] * 4)
    (total,) = [t for t in p.tasks.values() if t.summed]
    assert [n.prim.name for n in total.operands] == ["sin"] * 4
    assert not any(t.summed for t in program(lambda x: np.sin(x) + np.cos(x) + x, f64[2]).tasks.values())
    assert not any(t.summed for t in program(lambda x, y: np.sin(x) + np.sin(y), f64[2], f64[2]).tasks.values())


def test_partial_sums_that_are_used_stay():
    def f(xs):
        s = xs[0] = np.sin(xs[0])
        partial = []
        for x in xs[1:]:
            s = s + np.sin(x)
            partial.append(s)
        return partial

    assert not any(t.summed for t in program(f, [f64[2]] * 5).tasks.values())


def test_terms_that_are_additions_stay_terms():
    p = program(lambda w, xs: sum(np.sin(x) + w for x in xs), f64[2], [f64[2]] * 4)
    (total,) = [t for t in p.tasks.values() if t.summed]
    assert [n.prim.name for n in total.operands] == ["add"] * 4


def test_cotangents_of_elements_are_a_sum_of_rows():
    graph = mg.trace(lambda x: sum(np.sin(x[k]) * (k + 1.0) for k in range(4)))(f64[4]).grad()
    (total,) = [t for t in Program(graph).tasks.values() if t.rows is not None]
    assert (total.rows, len(total.read)) == (0, 4)
    x = np.arange(4.0)
    np.testing.assert_allclose(mg.autobatch(graph)(x), np.cos(x) * np.arange(1, 5))
    assert mg.autobatch(graph).count("pad", "add") == 0


def test_operations_on_different_weights_have_different_keys():
    p = program(lambda ws, xs: [[x @ w for w in ws] for x in xs], [f64[4, 4]] * 2, [f64[4]] * 3)
    keys = [t.key for t in p.tasks.values() if t.node.prim.name == "einsum"]
    assert (len(keys), len(set(keys))) == (6, 2)


def test_parameters_tell_operations_apart():
    p = program(lambda x, y: [np.sum(x, 0), np.sum(y, 0), np.sum(x, 1), x * 0.0, y * -0.0], f64[2, 2], f64[2, 2])
    assert [len(g) for g in p.in_order()] == [2, 1, 2] or sorted(len(g) for g in p.in_order()) == [1, 2, 2]
