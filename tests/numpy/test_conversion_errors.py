"""Conversion errors: line, expression and alternative of wrong programs; each alternative runs."""

import math
import re
from pathlib import Path

import numpy as np
import optree
import pytest
import scipy.linalg
import scipy.sparse

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.numpy.dispatch import FFT, LINALG, NAMES
from minigrad.traced_array import TABLE

from .conform import assert_same, quiet, run_traced, split
from .test_table import CASES, case_name

V, S, I = np.array([0.5, 1.5, 2.5]), 2.5, np.array(1)  # noqa: E741
TABLE_OF_FOUR, OUT, A = np.arange(8.0).reshape(4, 2), np.zeros(3), scipy.sparse.csr_matrix(np.diag([1.0, 2.0, 3.0]))


def plain_max(v):
    return max(0, v[0])


def set_element(v):
    out = np.zeros(3)
    out[0] = v[0]
    return out


def set_slice(v):
    out = np.zeros(3)
    out[:2] = v[:2]
    return out


def set_at_traced(i):
    out = np.zeros(3)
    out[i] = 1.0
    return out


def loop(v):
    while v[0] < 3:
        v = v * 2
    return v


def branch(v):
    if v[0] > 0:
        return v
    return -v


# (the argument, a wrong program, what its error says was called and proposes, the proposal run, its value)
CASES_OF_SYNTAX = [
    (V, plain_max, r"`max\(0, v\[0\]\)`: .*np\.maximum\(a, b\)", lambda v: np.maximum(0, v[0]), 0.5),
    (V, lambda v: max(v), r"`max\(v\)`: .*np\.max\(x\)", lambda v: np.max(v), 2.5),
    (V, lambda v: max([v[0], v[1]]), r"np\.stack\(\[a, b\]\)", lambda v: np.max(np.stack([v[0], v[1]])), 1.5),
    (V, lambda v: min(v), r"`min\(v\)`: .*np\.min\(x\)", lambda v: np.min(v), 0.5),
    (V, lambda v: sorted(v), r"`sorted\(v\)`: .*np\.sort\(x\)", lambda v: np.sort(v), V),
    (V, lambda v: any(v > 1), r"`any\(v > 1\)`: .*np\.any\(x\)", lambda v: np.any(v > 1), True),
    (V, lambda v: all(v > 1), r"`all\(v > 1\)`: .*np\.all\(x\)", lambda v: np.all(v > 1), False),
    (V, lambda v: bool(v[0]), r"`bool\(v\[0\]\)`: .*x != 0", lambda v: v[0] != 0, True),
    (V, loop, r"`while v\[0\] < 3`: .*mg\.while_loop\(test, body, state\)",
     lambda v: mg.while_loop(lambda v: v[0] < 3, lambda v: v * 2, v), V * 8),
    (V, branch, r"`if v\[0\] > 0`: .*np\.where\(condition, a, b\)", lambda v: np.where(v[0] > 0, v, -v), V),
    (V, branch, r"mg\.cond\(condition, f, g, x\)", lambda v: mg.cond(v[0] > 0, lambda v: v, lambda v: -v, v), V),
    (V, lambda v: v if v[0] > 0 else -v, r"`v if v\[0\] > 0 else -v`: ", lambda v: np.where(v[0] > 0, v, -v), V),
    (V, lambda v: v[0] > 0 and v[1] > 0, r"`v\[0\] > 0 and v\[1\] > 0`: .*np\.logical_and",
     lambda v: np.logical_and(v[0] > 0, v[1] > 0) & (v[0] > 0) & (v[1] > 0), True),
    (V, lambda v: v[0] > 2 or v[1] > 2, r"`.* or .*`: .*np\.logical_or",
     lambda v: np.logical_or(v[0] > 2, v[1] > 2) | (v[0] > 2), False),
    (V, lambda v: not v[0] > 0, r"`not v\[0\] > 0`: .*np\.logical_not",
     lambda v: np.logical_not(v[0] > 0) | ~(v[0] > 0), False),
    (V, lambda v: 0 < v[0] < 1, r"`0 < v\[0\] < 1`: .*\(a < b\) & \(b < c\)", lambda v: (v[0] > 0) & (v[0] < 1), True),
    (V, lambda v: v[0] in [0.5, 1.0], r"`v\[0\] in \[0.5, 1.0\]`: .*np\.any\(np\.equal\(x, values\)\)",
     lambda v: np.any(np.equal(v[0], [0.5, 1.0])), True),
    (V, lambda v: sum(a for a in v if a > 1), r"`\(a for a in v if a > 1\)`: .*np\.where\(mask, x, 0\).*where=mask",
     lambda v: np.where(v > 1, v, 0).sum() - np.sum(v, where=v > 1), 0.0),
    (V, lambda v: math.exp(v[0]), r"`math\.exp\(v\[0\]\)`: .*np\.exp", lambda v: np.exp(v[0]), np.exp(0.5)),
    (V, lambda v: np.float32(v[0]), r"`np\.float32\(v\[0\]\)`: .*x\.astype\(np\.float32\)",
     lambda v: v[0].astype(np.float32), np.float32(0.5)),
    (V, lambda v: f"{v[0]:.2f}", r"in the format '\.2f': .*mg\.print", lambda v: v[0], 0.5),
    (V, lambda v: "%.2f" % v[0], r"`'%\.2f' % v\[0\]`: .*mg\.print", lambda v: v[0], 0.5),  # noqa: UP031
    (V, set_element, r"`out\[0\] = v\[0\]`: .*out = minigrad\.numpy\.at\(out\)\[i\]\.set\(v\)",
     lambda v: mnp.at(OUT)[0].set(v[0]), np.array([0.5, 0.0, 0.0])),
    (V, set_slice, r"`out\[:2\] = v\[:2\]`: .*minigrad\.numpy\.at\(out\)",
     lambda v: mnp.at(OUT)[:2].set(v[:2]), np.array([0.5, 1.5, 0.0])),
    (I, set_at_traced, r"`out\[i\] = 1\.0`: .*minigrad\.numpy\.at\(out\)",
     lambda i: mnp.at(OUT)[i].set(1.0), np.array([0.0, 1.0, 0.0])),
    (I, lambda i: TABLE_OF_FOUR[i], r"`TABLE_OF_FOUR\[i\]`: .*minigrad\.numpy\.take\(x, i, axis=0\)",
     lambda i: mnp.take(TABLE_OF_FOUR, i, axis=0), TABLE_OF_FOUR[1]),
    (I, lambda i: TABLE_OF_FOUR[i, i], r"`TABLE_OF_FOUR\[i, i\]`: .*minigrad\.numpy\.getitem\(x, \(i, j\)\)",
     lambda i: mnp.getitem(TABLE_OF_FOUR, (i, i)), 3.0),
    (I, lambda i: np.take(TABLE_OF_FOUR, i, axis=0), r"np\.take of a traced value: .*minigrad\.numpy\.take",
     lambda i: mnp.take(TABLE_OF_FOUR, i, axis=0), TABLE_OF_FOUR[1]),
    (I, lambda i: TABLE_OF_FOUR[i:], r"`TABLE_OF_FOUR\[i:\]`: .*minigrad\.numpy\.take\(x, start \+ np\.arange\(n\)",
     lambda i: mnp.take(TABLE_OF_FOUR, i + np.arange(2), axis=0), TABLE_OF_FOUR[1:3]),
    (I, lambda i: [1.0, 2.0][i], r"`\[1\.0, 2\.0\]\[i\]`: .*minigrad\.numpy\.take",
     lambda i: mnp.take([1.0, 2.0], i, axis=0), 2.0),
    (I, lambda i: [i, 2 * i][i], r"np\.stack\(\[a, b\]\)\[i\].*mg\.switch", lambda i: np.stack([i, 2 * i])[i], 2),
    (I, lambda i: sum(2 for _ in range(i)), r"`range\(i\)`: .*mg\.fori_loop\(0, n, body, state\)",
     lambda i: mg.fori_loop(0, i, lambda k, s: s + 2, 0), 2),
    (S, lambda s: np.full(3, s), r"np\.full of a traced value: .*minigrad\.numpy\.full", lambda s: mnp.full(3, s),
     np.full(3, S)),
    (S, lambda s: np.full_like(V, s), r"np\.full_like of a traced value: .*minigrad\.numpy\.full_like",
     lambda s: mnp.full_like(V, s), np.full(3, S)),
    (S, lambda s: np.pad(V, 1, constant_values=s), r"np\.pad of a traced value: .*minigrad\.numpy\.pad",
     lambda s: mnp.pad(V, 1, constant_values=s), np.pad(V, 1, constant_values=S)),
    (S, lambda s: np.polyval([s, 1.0], 2.0), r"np\.polyval of a traced value: .*minigrad\.numpy\.polyval",
     lambda s: mnp.polyval([s, 1.0], 2.0), 6.0),
    (V, lambda v: np.array([v[0]]), r"`np\.array\(\[v\[0\]\]\)`: .*np\.stack\(\[a, b\]\).*minigrad\.numpy\.array",
     lambda v: np.stack([v[0]]) + mnp.array([v[0]]), np.array([1.0])),
    (V, lambda v: np.array([[v[0], 1.0], [2.0, v[1]]]), r"minigrad\.numpy\.array takes nested lists and numbers",
     lambda v: mnp.array([[v[0], 1.0], [2.0, v[1]]]), np.array([[0.5, 1.0], [2.0, 1.5]])),
    (V, lambda v: np.ascontiguousarray(v), r"`np\.ascontiguousarray\(v\)`: .*an array already.*minigrad\.numpy\.ascont",
     lambda v: v + mnp.ascontiguousarray(v), 2 * V),
    (V, lambda v: np.mean([v[0], v[1]]), r"np\.mean of a traced value: .*minigrad\.numpy\.mean.*np\.stack\(\[a, b\]\)",
     lambda v: np.mean(np.stack([v[0], v[1]])) + mnp.mean([v[0], v[1]]), 2.0),
    (S, lambda s: np.r_[s, V], r"AxisConcatenator.*np\.concatenate", lambda s: mnp.r_[s, V], np.r_[S, V]),
    (S, lambda s: np.maximum([s, s], 1), r"`np\.maximum\(\[s, s\], 1\)`: .*minigrad\.numpy's take lists",
     lambda s: mnp.maximum([s, s], 1), np.array([S, S])),
    (S, lambda s: np.add.reduce([s, s]), r"minigrad\.numpy's take lists", lambda s: mnp.add.reduce([s, s]), 5.0),
    (V, lambda v: scipy.linalg.norm(v), r"scipy\.linalg\.norm of a traced value: .*np\.linalg\.norm",
     lambda v: np.linalg.norm(v), np.linalg.norm(V)),
    (V, lambda v: A @ v, r"scipy\.sparse of a traced value: .*mg\.Sparse\.from_scipy\(A\)",
     lambda v: mg.Sparse.from_scipy(A) @ v, V * [1, 2, 3]),
    (V, lambda v: v @ A, r"a csr_matrix of SciPy.*mg\.Sparse\.from_scipy\(A\)",
     lambda v: v @ mg.Sparse.from_scipy(A), V * [1, 2, 3]),
    (V, lambda v: mg.cond(v[0] > 0, v, -v), r"cond: branch 0 is a traced value \(f64\[3\]\).*np\.where",
     lambda v: np.where(v[0] > 0, v, -v), V),
    (V, lambda v: mg.switch(v[0].astype(int), [v, -v]), r"switch: branch 0 is .*mg\.switch\(index, \[f, g\], x\)",
     lambda v: mg.switch(v[0].astype(int), [lambda v: v, lambda v: -v], v), V)]


@pytest.mark.parametrize("argument, wrong, said, right, value", CASES_OF_SYNTAX,  # noqa: PT006
                         ids=[str(i) for i in range(len(CASES_OF_SYNTAX))])
def test_errors_name_line_expression_and_a_working_alternative(argument, wrong, said, right, value):
    with pytest.raises((mg.TraceError, mg.DtypeError)) as caught:
        mg.compile(wrong)(argument)
    text = str(caught.value)
    assert re.match(r"test_conversion_errors\.py:\d+: ", text)
    assert re.search(said, text), text
    np.testing.assert_allclose(mg.compile(right)(argument), value)
    if argument is V and np.asarray(value).dtype == float and wrong is not loop:
        mg.check_grads(right, (argument,), order=1)


STANDING = [c for c in CASES_OF_SYNTAX if not any(w in c[2] for w in ("scipy", "SciPy", "TABLE_OF_FOUR\\[i:"))]


@pytest.mark.parametrize("argument, wrong", [c[:2] for c in STANDING], ids=range(len(STANDING)))  # noqa: PT006
def test_code_as_it_stands_runs_where_errors_say_so(argument, wrong):
    """Each program whose error proposes `numpy_code` has NumPy's value by it; others are refused by it, too."""
    with pytest.raises((mg.TraceError, mg.DtypeError)) as caught:
        mg.trace(wrong)(argument)
    as_it_stands = mg.numpy_code(wrong)
    if "mg.numpy_code(f)" in str(caught.value):
        np.testing.assert_allclose(mg.compile(as_it_stands)(argument), wrong(argument))
        return
    with pytest.raises((mg.TraceError, mg.DtypeError)) as caught:
        mg.trace(as_it_stands)(argument)
    assert "numpy_code" not in str(caught.value)


def test_slices_of_a_table_up_to_a_number_have_a_program_for_each():
    def rows(i):
        return TABLE_OF_FOUR[i:]

    program = mg.compile(mg.numpy_code(rows))
    for i in (1, 3):
        np.testing.assert_allclose(program(i), TABLE_OF_FOUR[i:])


def as_list(x):
    return [as_list(row) for row in x] if x.ndim else x


def spelling(function):
    name = case_name(function)
    module = getattr(function, "__module__", "") or ""
    if module in ("numpy.linalg", "numpy.fft"):
        return f"{module[6:]}.{name.rpartition('.')[2]}", (LINALG if module == "numpy.linalg" else FFT)[
            name.rpartition(".")[2]]
    return name, NAMES[name]


# Of lists, NumPy's array_split cuts another axis than it is told, and its trim_zeros returns a list; those that compare
# return False on errors: see below.
ODD = {"array_split", "split", "trim_zeros", "array_equal", "array_equiv"}
ARRAYS = [f for f in TABLE if case_name(f) not in ODD and not isinstance(f, np.ufunc) and any(
    isinstance(x, np.ndarray) and x.size > 0 for c in CASES.get(case_name(f), ())[:1]
    for x in optree.tree_leaves((c.args, c.kwargs), none_is_leaf=True))]


@pytest.mark.parametrize("function", sorted(ARRAYS, key=case_name), ids=case_name)
def test_minigrad_numpy_takes_calls_that_numpy_keeps(function):
    """Every array as nested lists of traced numbers: NumPy's function takes them, or names the one that does."""
    case = CASES[case_name(function)][0]
    arrays, bind = split(case)
    name, ours = spelling(function)
    with np.errstate(all="ignore"):
        try:
            want = bind(function)(*(a.tolist() for a in arrays))
        except (TypeError, AttributeError, IndexError):
            pytest.skip("NumPy takes no lists here")
    try:
        have = run_traced(lambda *xs: bind(function)(*map(as_list, xs)), *arrays)
    except mg.MinigradError as error:
        text = str(error)
        assert f"minigrad.numpy.{name}(...)" in text or "minigrad.numpy" in text, text
        have = quiet(run_traced, lambda *xs: bind(ours)(*map(as_list, xs)), *arrays)
    for h, w in zip(have, want, strict=True):
        assert_same(h, np.asarray(w), name)


@pytest.mark.parametrize("name", ["array_equal", "array_equiv"])
def test_comparisons_that_numpy_answers_with_false_warn(name):
    with pytest.warns(UserWarning, match=rf"test_conversion_errors\.py:\d+: np\.{name} of a traced value.*"
                                              rf"minigrad\.numpy\.{name}"):
        mg.trace(lambda v: (getattr(np, name)([v[0]], [v[0]]), v)[1])(V)
    assert run_traced(lambda v: getattr(mnp, name)([v[0]], [v[0]]), V) == [True]


def test_an_assertion_names_its_source(tmp_path):
    path = tmp_path / "asserts.py"
    path.write_text("def f(v):\n    assert v[0] > 0, 'no'\n    return v\n")
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    with pytest.raises(mg.TraceError, match=r"^asserts\.py:2: `assert v\[0\] > 0`: .*before tracing"):
        mg.compile(scope["f"])(V)


def test_page_names_spellings_of_minigrad_numpy():
    page = (Path(mnp.__file__).parent / "FUNCTIONS.md").read_text(encoding="utf-8")
    assert "| `np.full`, as `minigrad.numpy.full` |" in page
    assert "| `np.sum` |" in page
    assert "`import minigrad.numpy as np` takes all of these" in page


def test_without_source_the_error_still_has_line_and_way_out():
    scope = {"np": np}
    exec(compile("def f(v):\n    return max(0, v[0])\n", "<typed>", "exec"), scope)
    with pytest.raises(mg.TraceError, match=r"^<typed>:2: the truth of a traced value .*np\.where"):
        mg.compile(scope["f"])(V)


def test_formats_of_known_values_are_theirs():
    said = []
    mg.compile(lambda v: (said.append(f"{np.zeros_like(v).sum():.1f} {v}"), v)[1])(V)
    assert said[0].startswith("0.0 <traced f64[3]")
