"""Packed scans without Python in their steps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import passes
from minigrad.backends.native import packed_scan as bodies
from minigrad.backends.native.packed_scan import Bodies
from minigrad.backends.native.program import Program
from minigrad.graph import ArrayType, Graph
from minigrad.ops.control import parts
from minigrad.ops.packed_scan import packed_scan
from minigrad.primitive import placeholder

word = mg.axis("word")
SIZES = [(3, 0, 5, 1), (2, 2), (0, 0, 0), (1, 7, 0)]


@mg.example
class Words:
    x: mg.f64[word, 2]
    at: mg.i64[word]


def words(sizes, last=3):
    rng = np.random.default_rng(0)
    return [Words(rng.normal(size=(n, 2)), rng.integers(0, last + 1, n)) for n in sizes]


def loss(w, s):
    def step(h, row):
        x, at = row
        return np.tanh(w[:2] @ h + x) * mg.numpy.take(w[:, 0], at, axis=0), None

    return mg.scan(step, np.ones(2), (s.x, s.at))[0].sum()


W = np.random.default_rng(1).normal(size=(4, 2))


def compiled():
    return mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))), backend="native")


def program(step):
    (entry,) = step.entries.values() if isinstance(step.entries, dict) else step.entries
    return entry.program


def close(have, examples):
    rows = [mg.value_and_grad(loss)(W, e) for e in examples]
    np.testing.assert_allclose(have[0], np.mean([v for v, _ in rows]))
    np.testing.assert_allclose(have[1], np.mean([g for _, g in rows], axis=0))


def test_steps_need_no_python(monkeypatch):
    step = compiled()
    close(step(W, mg.batch(words(SIZES[0]))), words(SIZES[0]))
    assert program(step).ways.count("packed") == 2
    assert "python" not in program(step).ways
    monkeypatch.setattr(Bodies, "enter", lambda *args: pytest.fail("Python takes part in a step"))
    close(step(W, mg.batch(words(SIZES[0]))), words(SIZES[0]))


def test_threads_have_bodies_of_their_own():
    step, batches = compiled(), [mg.batch(words(sizes)) for sizes in SIZES] * 8
    step(W, batches[0])
    with ThreadPoolExecutor(4) as pool:
        for have, sizes in zip(pool.map(lambda b: step(W, b), batches), SIZES * 8, strict=True):
            close(have, words(sizes))


def test_an_index_out_of_range_names_its_line():
    step = compiled()
    good, bad = words(SIZES[0]), words(SIZES[0], last=3)
    bad[2].at[4] = 9
    step(W, mg.batch(good))
    with pytest.raises(IndexError, match=r"test_packed_scan\.py:\d+: .*index 9 is out of range .* in example 2"):
        step(W, mg.batch(bad))
    close(step(W, mg.batch(good)), good)


left, right = mg.axis("left"), mg.axis("right")


@mg.example
class Pair:
    a: mg.i64[left]
    b: mg.i64[right]


def pairs(sizes):
    rng = np.random.default_rng(0)
    return [Pair(rng.integers(0, 3, n), rng.integers(0, 3, m)) for n, m in sizes]


def distance(s):
    """The edit distance: a scan over the one string, which scans over the other one."""
    def row(above, a):
        def cell(here, near):
            diagonal, up, b = near
            here = np.minimum(np.minimum(up, here) + 1, diagonal + (a != b))
            return here, here

        _, others = mg.scan(cell, above[0] + 1, (above[:-1], above[1:], s.b))
        return np.concatenate([above[:1] + 1, others]), None

    return mg.scan(row, mg.numpy.arange(s.b.shape[0] + 1), s.a)[0][-1]


def plain_distance(a, b):
    row = list(range(len(b) + 1))
    for x in a:
        new = [row[0] + 1]
        for j, y in enumerate(b):
            new.append(min(row[j + 1] + 1, new[-1] + 1, row[j] + (x != y)))
        row = new
    return row[-1]


# The last of them: examples without letters on either side, where NumPy runs the steps of the longest.
PAIRS = [[(4, 3), (2, 5), (1, 1)], [(0, 3), (6, 2), (3, 0)], [(5, 0), (3, 0), (2, 4)], [(5, 0), (0, 0)]]


def test_scans_in_scans_need_no_python(monkeypatch):
    step = mg.compile(mg.vmap(distance), backend="native")
    for sizes in PAIRS * 2:
        assert step(mg.batch(pairs(sizes))).tolist() == [plain_distance(p.a, p.b) for p in pairs(sizes)]
    (body,) = program(step).packed.values()
    assert program(step).ways.count("packed") == body.ways.count("packed") == 1
    assert "python" not in (*program(step).ways, *body.ways)
    step(mg.batch(pairs(PAIRS[0])))
    monkeypatch.setattr(Bodies, "enter", lambda *args: pytest.fail("Python takes part in a step"))
    step(mg.batch(pairs(PAIRS[0])))


@pytest.mark.parametrize("kept", [1, 2])
def test_tables_of_few_bodies(kept, monkeypatch):
    monkeypatch.setattr(bodies, "KEPT", kept)
    step, batch = compiled(), words((3, 0, 5, 1, 9, 7))
    nested = mg.compile(mg.vmap(distance), backend="native")
    for _ in range(2):
        close(step(W, mg.batch(batch)), batch)
        for sizes in PAIRS:
            assert nested(mg.batch(pairs(sizes))).tolist() == [plain_distance(p.a, p.b) for p in pairs(sizes)]


def test_errors_of_bodies_come_out(monkeypatch):
    step = compiled()
    bind = Program.bind_body
    monkeypatch.setattr(Program, "bind_body", lambda *args: [][1])
    with pytest.raises(IndexError, match="list index out of range"):
        step(W, mg.batch(words(SIZES[0])))
    monkeypatch.setattr(Program, "bind_body", bind)
    close(step(W, mg.batch(words(SIZES[0]))), words(SIZES[0]))


@pytest.mark.parametrize(("operand", "lengths"), [
    (0, [1, 1, 1]), (0, [2, 2, 3]), (0, [-1, 4, 3]), (0, [2**62, 2, 2]), (1, [1, 0, 1]), (1, [-1, 2, 2])])
def test_lengths_that_do_not_fit_the_arrays_are_refused(operand, lengths):
    """The machine code reads no memory outside of the arrays."""
    sample = packed_scan.samples()[0]
    arrays = [np.array(lengths) if i == operand else x for i, x in enumerate(sample.arrays)]
    inputs = [placeholder(ArrayType(x.shape, x.dtype)) for x in arrays]
    node = packed_scan(*inputs, **sample.params)
    outputs = parts(node)
    run = Program(passes.run(Graph(tuple(inputs), tuple(outputs)))[0])
    assert run.ways.count("packed") == 1
    with pytest.raises((IndexError, ValueError)):
        run(arrays, {})


@pytest.mark.parametrize("sizes", [(3, 0, 2), (0, 0), (0, 4), (2, 0)])
def test_a_branch_on_examples_without_rows(sizes):
    """The product of the branch has no rows."""
    def f(w, s):
        return mg.cond(s.x.shape[0] > 1, lambda x: x * 2, lambda x: x @ w, s.x)

    square = W[:2]
    rows = mg.compile(mg.vmap(f, in_axes=(None, 0)), backend="native")(square, mg.batch(words(sizes)))
    for have, s in zip(rows.unbatch(), words(sizes), strict=True):
        np.testing.assert_allclose(have, f(square, s))
