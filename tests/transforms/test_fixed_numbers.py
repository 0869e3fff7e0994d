"""Numbers that a program holds for alone: integers whose number the code needs, and declared arguments."""

import enum
import functools
import math
import operator
import pickle
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.transforms.fixed_numbers import FixedNumbers, kind_of_leaf

W, X = np.array([0.5, -1.0, 2.0]), np.arange(12.0).reshape(4, 3) / 7 - 0.5
LONG = np.arange(1.0, 7.0)

NEED_NUMBERS = {
    "slice": lambda x, n: np.sum(x[:n]), "range": lambda x, n: sum(x[i] for i in range(n)),
    "arithmetic": lambda x, n: sum(x[i] for i in range(2 * n - 1)), "if": lambda x, n: np.sum(x) if n > 1 else x[0],
    "in": lambda x, n: np.sum(x) if n in (1, 2) else x[0], "size": lambda x, n: np.sum(np.zeros(n) + x[0]),
    "shape": lambda x, n: x.reshape(n, -1)[0].sum(), "axis": lambda x, n: np.sum(x[None, None], axis=n)[0, 0],
    "list": lambda x, n: [x[1], x[2], x[3]][n], "table": lambda x, n: np.eye(6)[n] @ x,
    "max": lambda x, n: x[:max(n, 1)].sum(),
    "repeat": lambda x, n: np.repeat(x, n).sum(), "float": lambda x, n: x[0] ** float(n),
    "format": lambda x, n: x[0] if f"{n:d}" == "2" else x[1], "steps": lambda x, n: mg.scan(
        lambda c, _: (c * x[0], None), x[1], length=n)[0]}


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("f", NEED_NUMBERS.values(), ids=NEED_NUMBERS)
def test_integers_are_numbers_where_the_code_needs_them(f, backend):
    expected = mg.grad(lambda x: f(x, 2))(LONG)
    np.testing.assert_array_equal(mg.grad(f)(LONG, 2), expected)
    np.testing.assert_array_equal(mg.grad(f)(LONG, np.int64(2)), expected)
    compiled = mg.compile(mg.value_and_grad(f), backend=backend)
    for _ in range(2):
        np.testing.assert_allclose(compiled(LONG, 2)[1], expected, rtol=1e-14)
    assert "n is fixed at 2: the code at test_fixed_numbers.py" in compiled.stages[0].note
    batched = mg.compile(mg.vmap(mg.grad(f), in_axes=(0, None)), backend=backend)
    for size in (2, 3):
        np.testing.assert_allclose(batched(np.stack([LONG] * size), 2), [expected] * size, rtol=1e-14)
    assert len(batched.entries) == 1


TABLE = {1: 0.5, 2: 1.5, 3: 2.5}


class Level(enum.IntEnum):
    LOW, MIDDLE, HIGH = 1, 2, 3


@functools.lru_cache
def looked_up(n):
    return TABLE[n]


def matched(n):
    match n:
        case 2:
            return 5.0
        case 3:
            return 7.0
    return 0.0


def checked(n):
    if not isinstance(n, int):
        raise TypeError("n must be an int")
    return float(n)


# Numbers for an integer, of Python code that takes no traced value.
PYTHON_CODE = {
    "dict": lambda n: TABLE[n], "dict.get": lambda n: TABLE.get(n, 9.0), "list": lambda n: [0.5, 1.5, 2.5, 3.5][n],
    "string": lambda n: ord("abcd"[n]), "hash": lambda n: hash(n) + 1.0, "str": lambda n: {"2": 5.0, "3": 7.0}[str(n)],
    "f-string": lambda n: {"w2": 5.0, "w3": 7.0}[f"w{n}"],
    "str of a tuple": lambda n: {"(2,)": 5.0}.get(str((n,)), 7.0),
    "percent": lambda n: {"2": 5.0, "3": 7.0}["%d" % n], "format": lambda n: {"2": 5.0, "3": 7.0}["{}".format(n)],  # noqa: UP031, UP032
    "in a set": lambda n: 5.0 if n in {1, 2} else 7.0, "in a dict": lambda n: 5.0 if n in TABLE else 7.0,
    "in a range": lambda n: 5.0 if n in range(1, 3) else 7.0, "match": matched, "cache": looked_up,
    "[None] * n": lambda n: float(len([None] * n)), "n * [0.0]": lambda n: float(len(n * [0.0])),
    "(1,) * n": lambda n: float(len((1,) * n)), "text * n": lambda n: float(len("ab" * n)), "checked": checked,
    "polynomial": lambda n: np.polyval([1.0] * n, 2.0), "zeros": lambda n: np.sum(np.zeros((n, n)) + 1),
    "n == 3": lambda n: 5.0 if n == 3 else 7.0, "n % 2 == 0": lambda n: 5.0 if n % 2 == 0 else 7.0,
    "int": lambda n: float(len(range(int(n)))), "operator.index": lambda n: float(len(range(operator.index(n)))),
    "enum": lambda n: 5.0 if Level(n) is Level.MIDDLE else 7.0, "fraction": lambda n: float(Fraction(1, n)),
    "comb": lambda n: math.comb(5, n), "counter": lambda n: float(Counter([n, 2])[2]),
    "seed": lambda n: np.random.default_rng(n).random(), "delete": lambda n: np.delete(np.arange(5.0), n).sum(),
    "math.factorial": math.factorial, "sorted": lambda n: sorted([5, n])[0] * 1.0, "size of a half": lambda n: float(
        len(np.ones(n // 2 + 1)))}
B = np.stack([LONG, 2 * LONG, LONG - 0.5])
ROWS = (None, 0, None)
TRANSFORMS = {
    "call": lambda f, *n: f(LONG, LONG, *n), "grad": lambda f, *n: mg.grad(f)(LONG, LONG, *n),
    "jvp": lambda f, *n: mg.jvp(f, (LONG, LONG, *n), (LONG, None, *[None] * len(n))),
    "vjp": lambda f, *n: mg.vjp(f, LONG, LONG, *n)[1](1.0)[:2], "hessian": lambda f, *n: mg.hessian(f)(LONG, LONG, *n),
    "vmap": lambda f, *n: mg.vmap(f, ROWS[:2 + len(n)])(LONG, B, *n),
    "mean": lambda f, *n: mg.value_and_grad(mg.mean_loss(f, ROWS[:2 + len(n)]))(LONG, B, *n),
    "microbatch": lambda f, *n: mg.grad(mg.microbatch(mg.mean_loss(f, ROWS[:2 + len(n)]), 2))(LONG, B, *n),
    "per example": lambda f, *n: mg.per_example_grad(f, in_axes=ROWS[:2 + len(n)])(LONG, B, *n),
    "nested": lambda f, *n: mg.grad(lambda w, *n: mg.vmap(f, ROWS[:2 + len(n)])(w, B, *n).sum())(LONG, *n)}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("number", PYTHON_CODE)
def test_python_code_gets_the_integers_themselves(number, transform):
    apply = TRANSFORMS[transform]

    def f(w, x, n):
        return np.sum(w**2 * x) * PYTHON_CODE[number](n)

    compiled = mg.compile(lambda *n: apply(f, *n), backend="numpy")
    for n in (2, 3, 2):
        expected = apply(lambda w, x, n=n: f(w, x, n))
        for result in (apply(f, n), compiled(n), mg.trace(lambda *n: apply(f, *n))(n)(n)):
            for a, b in zip(optree.tree_leaves(result), optree.tree_leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12)
    assert len(compiled.entries) == 2
    notes = "".join(note for entry in compiled.entries for note in entry.graph.notes)
    assert re.search(r"n0 is fixed at 2: the code at \w+\.py:\d+ needs its number", notes)


def test_errors_of_python_code_fix_the_integers_that_prevent_them_alone():
    compiled = mg.compile(lambda x, step, n: x * float(Fraction(1, n)) + step, backend="numpy")
    for step, n in [(0, 2), (1, 2), (5, 3), (6, 2)]:
        np.testing.assert_allclose(compiled(LONG, step, n), LONG / n + step)
    assert len(compiled.entries) == 2
    with pytest.raises(KeyError, match="7"):
        mg.compile(lambda x, n: x * TABLE[n], backend="numpy")(LONG, 7)
    with pytest.raises(ZeroDivisionError):
        mg.compile(lambda x, n: x * float(Fraction(1, n)), backend="numpy")(LONG, 0)


@pytest.mark.parametrize(("wrong", "right", "said"), [
    (lambda x, n: x * TABLE[n], lambda x, n: x * mg.numpy.take([0.5, 1.5, 2.5], (n - 1).astype(int)),
     r"the hash of a traced value \(f64\[\].*minigrad\.numpy\.take\(values, i\).*static_argnums"),
    (lambda x, n: x if n in {1.0, 2.0} else -x, lambda x, n: np.where(np.any(np.equal(n, list({1.0, 2.0}))), x, -x),
     r"`n in {1\.0, 2\.0}`: the hash of .*np\.any\(np\.equal\(x, list\(values\)\)\)"),
    (lambda x, n: x[:2] * np.argmax(x) * [1.0, 2.0], lambda x, n: x[:2] * np.argmax(x) * np.asarray([1.0, 2.0]), None),
    (lambda x, n: np.sum(np.argmax(x) * [1.0, 2.0]), lambda x, n: np.sum(np.asarray([1.0, 2.0]) * np.argmax(x)),
     r"`np\.argmax\(x\) \* \[1\.0, 2\.0\]`: .* A list repeats .*np\.asarray\(values\) \* n"),
])
def test_keys_and_repetitions_of_unknown_numbers_are_refused_and_the_way_out_works(wrong, right, said):
    n = np.float64(2.0)
    if said is not None:
        with pytest.raises(mg.TraceError, match=r"test_fixed_numbers\.py:\d+: " + said):
            mg.compile(wrong, backend="numpy")(LONG, n)
    expected = right(LONG, n)
    np.testing.assert_allclose(mg.compile(right, backend="numpy")(LONG, n), expected)
    if "static_argnums" in (said or ""):
        np.testing.assert_allclose(mg.compile(wrong, backend="numpy", static_argnums=1)(LONG, n), expected)


def test_each_needed_integer_has_a_program_and_other_numbers_share_one():
    compiled = mg.compile(lambda x, n, step, rate: np.sum(x[:n]) * rate + step)
    for n in (1, 2, 1, 3, 2):
        for step in range(3):
            assert compiled(LONG, n, step, 0.5) == np.sum(LONG[:n]) * 0.5 + step
    assert len(compiled.entries) == 3
    assert [len(e.graph.inputs) for e in compiled.entries] == [3, 3, 3]
    assert compiled.build(LONG, 2, 0, 1.0) is not None
    assert compiled.workspace_bytes(LONG, 2, 0, 1.0) >= 0


def test_different_arguments_need_different_integers():
    @mg.compile
    def f(x, flag, n, m):
        return x[:n].sum() if flag else x[:m].sum()

    for flag, n, m in [(True, 1, 2), (True, 1, 3), (False, 1, 2), (False, 5, 2), (True, 5, 2)]:
        assert f(LONG, flag, n, m) == LONG[:n if flag else m].sum()
    assert len(f.entries) == 3


def test_an_integer_that_chooses_what_else_is_needed():
    @mg.compile
    def f(x, n, m):
        return x[:m].sum() if n > 2 else x.sum()

    for n, m in [(1, 1), (3, 2), (3, 4), (1, 2), (4, 4)]:
        assert f(LONG, n, m) == (LONG[:m].sum() if n > 2 else LONG.sum())


def test_loops_keep_their_counters():
    assert mg.grad(lambda x, n: mg.fori_loop(0, n, lambda i, c: c * x[0], x[1]))(LONG, 2).tolist() == [4, 1, 0, 0, 0, 0]
    count = mg.compile(lambda x, n: mg.fori_loop(0, n, lambda i, c: c * x[0], x[1]))
    assert [count(LONG, n) for n in (2, 3)] == [2.0, 2.0]
    assert len(count.entries) == 1
    state = mg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, ~s[1]), (0, False))
    assert state == (3, True)
    total, _ = mg.scan(lambda c, x: (c + 1, None), 0, LONG)
    assert total == 6


def test_distribute_divides_for_each_integer():
    mean = mg.mean_loss(lambda w, x, n: np.sum((w * x)[:n] ** 2), in_axes=(None, 0, None))
    with ThreadPoolExecutor(2) as executor:
        parallel = mg.distribute(mean, executor, in_axes=(None, 0, None))
        for n in (1, 3, 1):
            assert np.isclose(parallel(W, X, n), mean(W, X, n), rtol=1e-14)


# -- static_argnums ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argnums", [1, "n", [1], ("n",), -1], ids=repr)
def test_declared_arguments_are_the_values_themselves(argnums):
    compiled = mg.compile(lambda x, n: np.sum(x**n) if isinstance(n, int) else 0.0, static_argnums=argnums)
    for n in (2, 3, 2):
        assert compiled(LONG, n) == compiled(LONG, n=n) == np.sum(LONG**n)
    assert len(compiled.entries) == 4, "the structure of positional and of keyword arguments differs"


def test_declared_values_of_different_types_differ():
    compiled = mg.compile(lambda x, v: x * (1 / v if v else np.copysign(2.0, v)) + isinstance(v, int), static_argnums=1)
    for v, expected in [(1, 2), (1.0, 1), (True, 2), (0.0, 2), (-0.0, -2), (0, 3)]:
        assert compiled(1.0, v) == expected
    assert len(compiled.entries) == 6


def test_declared_containers_hold_static_leaves():
    compiled = mg.compile(lambda x, sizes, *, options: sum(x[:n].sum() for n in sizes) * options["a"][0],
                          static_argnums=("sizes", "options"))
    assert compiled(LONG, [1, 2], options={"a": [3]}) == compiled(LONG, [1, 2], options={"a": [3]}) == 12.0
    assert compiled(LONG, [1, 3], options={"a": [3]}) == 21.0
    assert len(compiled.entries) == 2


def test_further_positional_and_keyword_arguments_can_be_declared():
    compiled = mg.compile(lambda x, *rest, **more: x[:rest[0]].sum() * {3: 2, None: 1}[more.get("k")],
                          static_argnums=(1, "k"))
    assert compiled(LONG, 2, k=3) == 6.0
    assert compiled(LONG, 2) == 3.0


def test_compiled_functions_pickle_with_their_fixed_numbers():
    compiled = mg.compile(power_of_slice, static_argnums="n")
    compiled(LONG, 2, 3)
    again = pickle.loads(pickle.dumps(compiled))
    assert again(LONG, 2, 3) == np.sum(LONG[:3] ** 2)
    assert len(again.entries) == 1
    assert again(LONG, 3, 3) == np.sum(LONG[:3] ** 3)


def power_of_slice(x, n, m):
    assert isinstance(n, int)
    return np.sum(x[:m] ** n)


def test_fixed_numbers_know_what_a_trace_needed():
    fixed = FixedNumbers(lambda x, a, b: x[:b].sum() * a)
    args = (LONG, 2, 3)
    before = fixed.flatten(args, {})
    assert before.inputs == [0, 1, 2]
    traced, after = fixed.trace(args, {}, before)
    assert traced.fixed == after.fixed == (2,)
    assert (after.inputs, after.integers) == ([0, 1], [2])
    assert fixed.flatten(args, {}).flat.tree == after.flat.tree


def test_kinds_of_leaves_tell_static_values_apart():
    assert kind_of_leaf(np.float32) != kind_of_leaf(np.float64)
    assert kind_of_leaf(1) == kind_of_leaf(2) != kind_of_leaf(1.0)
    assert kind_of_leaf(True) != kind_of_leaf(False)
    assert kind_of_leaf({1}) != kind_of_leaf({1})
    assert kind_of_leaf("a") == kind_of_leaf("a") != kind_of_leaf(b"a")
