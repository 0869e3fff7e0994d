"""Branches and loops against the Python they stand for."""

import math
from functools import partial

import numpy as np
import optree
import pytest

import minigrad as mg

rng = np.random.default_rng(0)


def close(got, want, rtol=1e-10):
    for a, b in zip(optree.tree_leaves(got), optree.tree_leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


# -- cond and switch --------------------------------------------------------------------------------------


def root(x):
    return mg.cond(x > 0, np.sqrt, lambda x: -(x**2), x)


def choose(w, x):
    return mg.cond(x[0] > 0, lambda x: np.tanh(w @ x), lambda x: (w * x).sum() ** 2, x)


X = np.array([4.0, -3.0, 0.25, -1e-3, 9.0])


def test_each_example_takes_its_own_branch():
    close(mg.vmap(root)(X), np.array([2, -9, 0.5, -1e-6, 3]))
    want = np.array([0.25, 6, 1, 2e-3, 1 / 6])
    close(mg.vmap(mg.grad(root))(X), want)
    close(mg.grad(lambda X: mg.vmap(root)(X).sum())(X), want)
    close(mg.vmap(mg.hessian(root))(X), np.array([-1 / 32, -2, -2, -2, -1 / 108]))


def test_the_other_branch_has_no_part_in_the_gradient():
    # At 0 the root's slope is infinite; 0 times that would be nan.
    zero = np.array([0.0, 4.0])
    close(mg.grad(lambda X: mg.vmap(root)(X).sum())(zero), np.array([0, 0.25]))
    close(mg.compile(mg.vmap(mg.grad(root)))(zero), np.array([0, 0.25]))


def test_branches_show_in_the_batched_graph():
    graph = mg.trace(mg.vmap(root))(X)
    (node,) = [n for n in graph.nodes if n.prim.name == "switch"]
    assert [g.count("sqrt") + g.count("square") for g in node.params["graphs"]] == [1, 1]
    assert "sqrt" in str(graph)
    assert "square" in str(graph)


def test_shared_weights_closed_over():
    w, rows = rng.normal(size=3), rng.normal(size=(6, 3))
    loss = mg.mean_loss(choose, (None, 0))
    close(loss(w, rows), np.mean([choose(w, x) for x in rows]))
    close(mg.grad(loss)(w, rows), np.mean([mg.grad(choose)(w, x) for x in rows], axis=0))
    close(mg.compile(mg.value_and_grad(loss))(w, rows), mg.value_and_grad(loss)(w, rows))
    close(mg.per_example_grad(choose, in_axes=(None, 0))(w, rows), np.array([mg.grad(choose)(w, x) for x in rows]))


def test_nested_batches():
    w, rows = rng.normal(size=(4, 3)), rng.normal(size=(2, 5, 3))
    both = mg.vmap(mg.vmap(choose, (None, 0)), (None, 0))
    close(both(w[0], rows), np.array([[choose(w[0], x) for x in r] for r in rows]))

    def total(w, rows):
        return mg.vmap(choose, (None, 0))(w, rows).sum()

    close(mg.vmap(mg.grad(total), (0, None))(w, rows[0]),
          np.array([np.sum([mg.grad(choose)(v, x) for x in rows[0]], axis=0) for v in w]))


def test_a_predicate_for_all_examples_takes_one_branch():
    def f(flag, x):
        return mg.cond(flag > 0, lambda x: x.sum(), lambda x: x[0] * 2, x)

    rows = rng.normal(size=(3, 2))
    for flag in (1.0, -1.0):
        close(mg.vmap(f, (None, 0))(flag, rows), np.array([f(flag, x) for x in rows]))
        close(mg.vmap(mg.grad(f, 1), (None, 0))(flag, rows), np.array([mg.grad(f, 1)(flag, x) for x in rows]))


def test_switch_limits_its_index():
    def f(i, x):
        return mg.switch(i, [lambda x: x, lambda x: x * x, np.exp], x)

    index = np.array([-5, 0, 1, 2, 9])
    want = np.array([3, 3, 9, np.exp(3.0), np.exp(3.0)])
    close(mg.vmap(f, (0, None))(index, 3.0), want)
    close(mg.vmap(mg.grad(f, 1), (0, None))(index, 3.0), np.array([1, 1, 6, np.exp(3.0), np.exp(3.0)]))
    close(np.array([f(int(i), 3.0) for i in index]), want)


def test_pytrees_pass_through():
    def f(x):
        return mg.cond(x.sum() > 0, lambda t: {"a": t["a"] + 1, "b": (t["b"],)},
                       lambda t: {"a": -t["a"], "b": (t["b"],)}, {"a": x, "b": x.sum()})

    out = mg.vmap(f)(np.array([[1.0, 2.0], [-1.0, -2.0]]))
    close(out, {"a": np.array([[2, 3], [1, 2]]), "b": (np.array([3, -3]),)})


# -- while ------------------------------------------------------------------------------------------------


def grow(x):
    return mg.while_loop(lambda s: s[0] < 10, lambda s: (s[0] * x, s[1] + 1), (x, 0))


def test_while_with_a_count_per_example():
    starts = np.array([1.5, 2.0, 9.0, 11.0])
    got = mg.vmap(grow)(starts)
    close(got[0], np.array([1.5**6, 16, 81, 11]))
    assert got[1].tolist() == [5, 3, 1, 0]
    close(mg.compile(mg.vmap(grow))(starts), got)


def test_forward_mode_goes_through_while():
    close(mg.jvp(lambda x: grow(x)[0], (1.5,), (1.0,)), (1.5**6, 6 * 1.5**5))
    slope = mg.vmap(lambda x: mg.jvp(lambda x: grow(x)[0], (x,), (1.0,))[1])
    close(slope(np.array([1.5, 11.0])), np.array([6 * 1.5**5, 1]))


def test_reverse_mode_needs_no_rule_of_while_behind_stop_gradient():
    """Newton's method, and a count of halvings, of values that are constants of the derivative."""
    def root(a):
        fixed = mg.stop_gradient(a)
        r = mg.while_loop(lambda r: np.abs(r * r - fixed) > 1e-12 * fixed, lambda r: (r + fixed / r) / 2, fixed)
        return (r + a / r) / 2  # one step more, for the derivative

    def halvings(w, x):
        total = np.sum(w * x)
        start = mg.stop_gradient(total), 0.0
        _, count = mg.while_loop(lambda c: c[0] > 1.0, lambda c: (c[0] / 2, c[1] + 1), start)
        return total * count

    a, rows = np.array([2.0, 9.0, 1e6]), [np.array([3.0, 4.0]), np.zeros(0), np.array([20.0])]
    slopes = mg.vmap(mg.grad(root))
    counts = mg.per_example_grad(halvings, in_axes=(None, 0))
    batch = mg.batch(rows, mg.f64[mg.axis("item")])
    for run in (lambda f: f, *(partial(mg.compile, backend=b) for b in ("numpy", "native"))):
        np.testing.assert_allclose(run(slopes)(a), 0.5 / np.sqrt(a), rtol=1e-9)
        np.testing.assert_allclose(run(counts)(np.array(1.0), batch), [7 * 3, 0, 20 * 5])
    doubled = mg.grad(lambda w: w * mg.while_loop(lambda k: k < 5, lambda k: k * 2, np.floor(w)))
    np.testing.assert_allclose(doubled(2.3), 8.0)


def test_reverse_mode_through_while_error_suggests_scan():
    with pytest.raises(mg.Unsupported, match=r"test_control.py:\d+.*while.*scan"):
        mg.grad(lambda x: grow(x)[0])(1.5)


# -- scan -------------------------------------------------------------------------------------------------


def step(p):
    def one(h, x):
        h = np.tanh(x @ p["U"] + h @ p["W"])
        return h, h.sum()

    return one


def rnn(p, xs):
    h, ys = mg.scan(step(p), np.zeros(4), xs)
    return (h**2).sum() + (ys * np.arange(7)).sum()


def rnn_checkpointed(p, xs):
    h, ys = mg.scan(mg.checkpoint(step(p)), np.zeros(4), xs)
    return (h**2).sum() + (ys * np.arange(7)).sum()


def rnn_loop(p, xs):
    h, total = np.zeros(4), 0.0
    for t in range(7):
        h, y = step(p)(h, xs[t])
        total = total + t * y
    return (h**2).sum() + total


P = {"U": rng.normal(size=(3, 4)), "W": rng.normal(size=(4, 4))}
S = rng.normal(size=(5, 7, 3))

TRANSFORMS = {
    "mean gradient": lambda f: mg.value_and_grad(mg.mean_loss(f, (None, 0))),
    "per example": lambda f: mg.per_example_grad(f, in_axes=(None, 0)),
    "microbatch": lambda f: mg.grad(mg.microbatch(mg.mean_loss(f, (None, 0)), 2)),
    "hvp": lambda f: lambda p, s: mg.hvp(lambda p: f(p, s[0]), (p,), (p,)),
    "jvp": lambda f: lambda p, s: mg.jvp(lambda p: f(p, s[0]), (p,), (p,)),
    "gradient penalty": lambda f: mg.vmap(lambda p, s: mg.grad(
        lambda p: sum((g**2).sum() for g in mg.grad(f)(p, s).values()))(p), (None, 0)),
}


@pytest.mark.parametrize("f", [rnn, rnn_checkpointed])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_scan_is_the_loop(f, name):
    close(f(P, S[0]), rnn_loop(P, S[0]))
    want = TRANSFORMS[name](rnn_loop)(P, S)
    close(TRANSFORMS[name](f)(P, S), want, rtol=1e-8)
    close(mg.compile(TRANSFORMS[name](f))(P, S), want, rtol=1e-8)


def test_scan_backwards_without_slices_and_with_none():
    close(mg.scan(lambda c, x: (c + x, c), 0.0, np.arange(4.0), reverse=True), (6, np.array([6, 5, 3, 0])))
    close(mg.scan(lambda c, _: (2 * c, None), 1.0, length=5)[0], 32)
    close(mg.grad(lambda x: mg.scan(lambda c, _: (x * c, None), 1.0, length=5)[0])(2.0), 80)
    assert mg.scan(lambda c, x: (c, x), 1.0, np.zeros((0, 2)))[1].shape == (0, 2)


@pytest.mark.parametrize("bound", [3, np.int64(3)], ids=["plain", "traced"])
def test_the_index_of_fori_leaves_dtypes_alone(bound):
    """As the index of a Python loop does."""
    x = np.array([0.5, 2.0], np.float32)

    def f(x, n):
        return mg.fori_loop(0, n, lambda i, h: np.tanh(h) + i * x, x)

    want = x
    for i in range(3):
        want = np.tanh(want) + i * x
    for run in (f, *(mg.compile(f, backend=b) for b in ("numpy", "native"))):
        have = run(x, bound)
        assert have.dtype == want.dtype == np.float32
        np.testing.assert_allclose(have, want, rtol=1e-6)


def test_fori():
    close(mg.fori_loop(0, 5, lambda i, s: s * 2 + i, 1.0), 58)
    close(mg.grad(lambda x: mg.fori_loop(0, 5, lambda i, s: s * x, 1.0))(2.0), 80)
    close(mg.vmap(lambda n: mg.fori_loop(0, n, lambda i, s: s + i, 0))(np.array([0, 3, 5])), np.array([0, 3, 10]))


NUMBERS = {  # steps on states that begin as Python numbers
    "one promotion": (lambda c, x: c + x, 0.0),
    "two promotions": (lambda c, x: [c[0] + x, c[1] + c[0]], [0.0, 0.0]),
    "three promotions": (lambda c, x: [c[0] + x, c[1] + c[0], c[2] + c[1]], [0, 0.0, 0]),
    "in turn": (lambda c, x: (c[1], c[0] + x), (0.0, 1.0)),
    "the promoted one again": (lambda c, x: [c[0] * x + c[1], c[1] + x.astype(float)], [0.0, 0]),
    "int becomes float": (lambda c, x: [c[0] + 0.5, c[1] + c[0] * x], [0, 0]),
    "a number stays one": (lambda c, x: [c[0] * 2, c[1] + c[0] * x], [1.0, 0.0]),
    "a number for an array": (lambda c, x: [0.5, c[1] + c[0]], [np.float32(2), np.float32(0)]),
    "a number at the end": (lambda c, x: [0, c[1] + c[0] * x], [1.0, 0.0]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", NUMBERS)
def test_states_that_begin_as_numbers_take_the_dtype_of_the_loop(name, dtype):
    step, init = NUMBERS[name]
    xs = np.array([1, 2, 4], dtype)
    want = init
    for x in xs:
        want = step(want, x)
    strong = [i for i, v in enumerate(optree.tree_leaves(want)) if isinstance(v, np.generic)]

    def scan(xs):
        return mg.scan(lambda c, x: (step(c, x), None), init, xs)[0]

    def fori(xs):
        return mg.fori_loop(0, 3, lambda i, c: step(c, xs[i]), init)

    def while_(xs):
        return mg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, step(s[1], xs[s[0]])), (0, init))[1]

    for f in (scan, mg.compile(scan), mg.compile(scan, "numpy"), mg.compile(fori), mg.compile(while_),
              lambda xs: optree.tree_map(lambda a: a[0], mg.vmap(scan)(xs[None]))):
        have = f(xs)
        close(have, want)
        dtypes = [[optree.tree_leaves(v)[i].dtype for i in strong] for v in (have, want)]
        assert dtypes[0] == dtypes[1]


def test_gradients_of_states_that_begin_as_numbers():
    xs = np.array([1.0, 2.0, 4.0], np.float32)
    f = mg.compile(mg.grad(lambda z, xs: mg.scan(lambda c, x: ((c[0] * x, c[1] + c[0]), None), (z, 0.0), xs)[0][1],
                           (0, 1)))
    to_z, to_xs = f(3.0, xs)  # z + z x0 + z x0 x1
    close((to_z, to_xs), (4.0, np.array([9.0, 3.0, 0.0])))
    assert to_xs.dtype == np.float32


REPEATS = {  # a step that reads its carry twice, and the power of it that it makes
    "product": (lambda c: c * c, 2),
    "einsum": (lambda c: np.einsum("i,i->", np.stack([c, c]), np.stack([c, c])) / 2, 2),
    "cond": (lambda c: mg.cond(c > 0, lambda a, b: a * b, lambda a, b: a - b, c, c), 2),
    "fori_loop": (lambda c: mg.fori_loop(0, 1, lambda j, v: v * c, c), 2),
    "scan": (lambda c: mg.scan(lambda v, y: (v * y, None), c, np.stack([c, c]))[0], 3),
    "checkpoint": (mg.checkpoint(lambda c: c * c), 2),
    "stack": (lambda c: np.prod(np.stack([c, c, c])), 3),
    "solve": (lambda c: np.linalg.solve(np.eye(2) / c, np.stack([c, c]))[0], 2),
}


@pytest.mark.parametrize("name", REPEATS)
def test_higher_derivatives_of_steps_that_read_a_value_twice(name):
    step, power = REPEATS[name]
    n = power**2  # of two steps
    x = np.array([0.7, 1.1])
    for f in (lambda x: mg.fori_loop(0, 2, lambda i, c: step(c), x),
              lambda x: mg.scan(lambda c, _: (step(c), c), x, length=2)[0],
              mg.checkpoint(lambda x: mg.fori_loop(0, 2, lambda i, c: step(c), x))):
        for order in range(4):
            want = math.perm(n, order) * x**(n - order)
            close(f(0.7), want[0])
            if order < 3:
                close(mg.compile(mg.vmap(f))(x), want)
            f = mg.grad(f)


BACKENDS = ("numpy", "native")
ROW = np.array([1.0, 2.0, 3.0])


def twice_read(r):
    """Return what needs the memory of `r` twice: once while another value of its size is made."""
    return np.cumsum(r) + r


NO_TURNS = {
    "fori": lambda s, n: mg.fori_loop(0, 0, lambda i, s: s * 2, s),
    "fori of a traced count": lambda s, n: mg.fori_loop(0, n, lambda i, s: s * 2, s),
    "scan of length 0": lambda s, n: mg.scan(lambda c, _: (c * 2, c), s, length=0)[0],
    "scan over no rows": lambda s, n: mg.scan(lambda c, x: (c * x, c), s, s[:0])[0],
    "while that is done": lambda s, n: mg.while_loop(lambda s: s[0] > 9, lambda s: s * 2, s),
    "a loop in a loop": lambda s, n: mg.fori_loop(
        0, 1, lambda i, s: twice_read(mg.fori_loop(0, n, lambda i, s: s * 2, s * 1.0)), s),
    "one state twice": lambda s, n: sum(mg.fori_loop(0, n, lambda i, s: (s[1], s[0]), (s, s))) * 0.5,
    "a view": lambda s, n: mg.fori_loop(0, n, lambda i, s: s * 2, s[::-1])[::-1],
    "a branch": lambda s, n: mg.cond(n > 0, lambda s: s * 2, lambda s: s, s),
    "a branch per row": lambda s, n: mg.vmap(lambda v: mg.cond(v > 9.0, lambda v: v * 2, lambda v: v, v))(s),
    "a checkpoint": lambda s, n: mg.checkpoint(lambda s: (s, s * n))(s)[0],
}


@pytest.mark.parametrize("without", [(), ("simplify", "tidy", "dead_code")], ids=["all passes", "few passes"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NO_TURNS)
def test_a_loop_of_no_turn_copies_its_state(name, backend, without):
    def f(x, n):
        return twice_read(NO_TURNS[name](np.sin(x), n))

    def want(s):
        s = np.cumsum(s) + s if name == "a loop in a loop" else s
        return np.cumsum(s) + s

    x = ROW.copy()
    close(mg.compile(f, backend, without)(x, 0), want(np.sin(ROW)))
    close(x, ROW)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["fori", "scan of length 0", "scan over no rows", "a branch", "a branch per row",
                                  "a checkpoint"])
def test_a_loop_of_no_turn_copies_its_cotangent(name, backend):
    def f(x, n):
        return twice_read(NO_TURNS[name](np.sin(x), n)).sum()

    slope = np.cos(ROW) * [4, 3, 2]
    close(mg.compile(mg.grad(f), backend)(ROW, 0), slope)
    close(mg.compile(mg.grad(lambda x: np.sin(mg.grad(f)(x, 0)).sum()), backend)(ROW),
          np.cos(slope) * -np.sin(ROW) * [4, 3, 2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_of_no_turn_copies_its_state_per_example(backend):
    rows = rng.normal(size=(5, 3))
    want = np.array([(np.cumsum(np.sin(r)) + np.sin(r)).sum() for r in rows])
    for n, axis in ((np.zeros(5, int), 0), (0, None)):
        f = mg.vmap(lambda x, n: twice_read(NO_TURNS["fori of a traced count"](np.sin(x), n)).sum(), (0, axis))
        close(mg.compile(f, backend)(rows, n), want)
    f = mg.vmap(lambda x: twice_read(NO_TURNS["scan of length 0"](np.sin(x), 0)).sum())
    close(mg.compile(mg.microbatch(f, 2), backend)(rows), want)


# -- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("f", "words"), [
    (lambda x: mg.cond(x > 0, lambda x: x, lambda x: x.astype(np.float32), x), "f32.*f64"),
    (lambda x: mg.cond(x > 0, lambda x: (x, x), lambda x: x, x), "different structures"),
    (lambda x: mg.cond(np.stack([x, x]) > 0, lambda x: x, lambda x: x, x), "one value.*np.where"),
    (lambda x: mg.switch(x, [np.sin, np.cos], x), "integer"),
    (lambda x: mg.scan(lambda c, v: (np.stack([c, c]), v), x, np.ones(3)), "must stay the same"),
    (lambda x: mg.scan(lambda c, v: (c.astype(np.float32), v), x, np.ones(3)), "f64.*f32.*must stay the same"),
    (lambda x: mg.scan(lambda c, v: (0.5, v), np.int32(1), x[None]), "i32.*f64.*must stay the same"),
    (lambda x: mg.scan(lambda c, v: ((c, c), v), x, np.ones(3)), "goes in as.*comes out as"),
    (lambda x: mg.scan(lambda c, v: c, x, np.ones(3)), r"must return \(carry, y\)"),
    (lambda x: mg.scan(lambda c, v: (c, v, v), x, np.ones(3)), r"must return \(carry, y\)"),
    (lambda x: mg.scan(lambda c, v: (c, v), x), "xs or a length"),
    (lambda x: mg.scan(lambda c, v: (c, v), x, (np.ones(3), np.ones(4))), "lengths differ"),
    (lambda x: mg.while_loop(lambda s: s, lambda s: s, x), "one bool"),
])
def test_bad_input(f, words):
    with pytest.raises(mg.MinigradError, match=words) as caught:
        mg.grad(f)(np.float64(1.0))
    assert "test_control.py" in str(caught.value)
    close(mg.grad(root)(4.0), 0.25)


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_choices_between_arrays_of_no_elements(backend):
    def f(i, x):
        return mg.switch(i, [lambda x: np.sum(x) + 1.0, lambda x: np.prod(x) + 2.0], x)

    g = mg.vmap(f) if backend is None else mg.compile(mg.vmap(f), backend=backend)
    np.testing.assert_array_equal(g(np.array([0, 1, 1]), np.zeros((3, 2, 0))), [1.0, 3.0, 3.0])
    h = mg.microbatch(mg.vmap(f), 2)
    h = h if backend is None else mg.compile(h, backend=backend)
    np.testing.assert_array_equal(h(np.array([0, 1, 1]), np.zeros((3, 2, 0))), [1.0, 3.0, 3.0])


def _leaked():
    """Return a value of a trace that is over."""
    leaked = []
    mg.grad(lambda x: (leaked.append(x), x)[1])(1.0)
    return leaked[0]


@pytest.mark.parametrize("use", [
    lambda leaked: mg.scan(lambda c, v: (c + leaked, v), 0.0, np.arange(3.0)),
    lambda leaked: mg.scan(mg.checkpoint(lambda c, v: (c + leaked, v)), 0.0, np.arange(3.0)),
    lambda leaked: mg.while_loop(lambda c: c < 3, lambda c: c + leaked, 0.0),
    lambda leaked: mg.fori_loop(0, 3, lambda i, c: c * leaked, 1.0),
    lambda leaked: mg.scan(lambda c, v: (c, v), leaked, np.arange(3.0)),
    lambda leaked: mg.checkpoint(lambda x: x * leaked)(1.0),
    lambda leaked: mg.switch(0, [lambda x: x * leaked, lambda x: x], 1.0),
    lambda leaked: mg.switch(np.int64(1), [lambda x: x, lambda x: {"a": (x, x + leaked)}], 1.0),
    lambda leaked: mg.switch(0, [lambda x: x], leaked),
    lambda leaked: mg.switch(leaked.astype(int), [lambda x: x, lambda x: -x], 1.0),
    lambda leaked: mg.cond(True, lambda: leaked, lambda: 0.0),
    lambda leaked: mg.cond(leaked > 0, lambda x: x, lambda x: -x, 1.0),
    lambda leaked: mg.vmap(lambda x: mg.switch(0, [lambda x: x * leaked], x))(np.ones(2)),
], ids=["scan", "checkpointed scan", "while_loop", "fori_loop", "carry", "checkpoint", "branch",
        "branch of a pytree", "operand", "index", "chosen function", "condition", "branch within vmap"])
def test_bodies_refuse_values_of_traces_that_are_over(use):
    with pytest.raises(mg.TraceError, match=r"^test_control\.py:\d+: a traced value \(f64\[\]\) is used outside the"):
        use(_leaked())


def test_errors_name_the_branches_as_the_user_does():
    x = np.ones(3)
    with pytest.raises(mg.ShapeError, match=r"cond: false_fun and true_fun .* structures: \* and \(\*, \*\)"):
        mg.grad(lambda x: mg.cond(x[0] > 0, lambda v: (v.sum(), v.sum()), lambda v: v.sum(), x))(x)
    with pytest.raises(mg.ShapeError, match=r"switch: branch 0 returns f64\[\] where branch 1 returns f64\[3\]"):
        mg.compile(lambda i, x: mg.switch(i, [np.sum, np.sin], x))(1, x)
    with pytest.raises(mg.ShapeError, match=r"the state goes in as \* and comes out as \(\*, \*\)"):
        mg.grad(lambda x: mg.scan(lambda c, v: ((c, c), v), 0.0, x)[0])(x)


def test_the_ways_out_of_a_number_of_steps_of_each_example_work():
    """The gradient of a loop with a plain number of steps is that of a longer loop that keeps the state."""
    def counted(w, x, n):
        return mg.fori_loop(0, n, lambda i, c: np.tanh(c * w + x), x)

    def kept(w, x, n):
        return mg.fori_loop(0, 3, lambda i, c: np.where(i < n, np.tanh(c * w + x), c), x)

    X, N, axes = np.array([0.5, -1.0, 2.0]), np.array([1, 3, 0]), (None, 0, 0)
    with pytest.raises(mg.MinigradError, match=r"(?s)test_control.py:\d+: while has no vjp .*ragged axis.*np.where"):
        mg.grad(mg.mean_loss(counted, axes))(0.7, X, N)
    for loss in (mg.mean_loss(kept, axes), mg.microbatch(mg.mean_loss(kept, axes), 2)):
        np.testing.assert_allclose(mg.grad(loss)(0.7, X, N), np.mean(
            [mg.grad(counted)(0.7, x, int(n)) for x, n in zip(X, N, strict=True)]))
