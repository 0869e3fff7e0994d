"""Indices out of range: refused by every function that reads by them, in every transform and on every backend."""

import re

import numpy as np
import optree
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad import passes

V, W, WIDE = np.array([1.0, 2.0, 4.0]), np.arange(6.0).reshape(3, 2), np.ones((3, 64))
SEGMENTS = ("segment_sum", "segment_mean", "segment_max", "segment_min", "segment_softmax")
_FORWARD, _BOTH = ([0, 1, 2], (-1, 3, -4, 7)), ([0, -3, 2], (3, -4))


def segment(name, **options):
    return lambda v, i: getattr(mg, name)(v, i, 3, **options)


def looped(v, i):
    return mg.fori_loop(0, 2, lambda k, s: s + mnp.sum(mg.segment_sum(v, i, 3)), 0.0)


def unread(v, i):
    return (mg.segment_sum(v, i, 3), mnp.sum(v))[1]


def branched(v, i):
    return mg.cond(v[0] > 0, lambda v, i: mnp.sum(mg.segment_sum(v, i, 3)), lambda v, i: v[0], v, i)


# The function, its array, good indices, and what must not stand in the last place of them.
PROGRAMS = {
    **{name: (segment(name), V, *_FORWARD) for name in SEGMENTS},
    **{f"{name}, null": (segment(name, null=-1), V, [0, -1, 2], (-2, 3, -4, 7)) for name in SEGMENTS},
    "null within the places": (segment("segment_sum", null=1), V, [0, 1, 2], (-1, 3)),
    "gather": (mg.gather, V, [0, -1, 2], (3, 4, -4)),
    "sum of places": (lambda v, i: mnp.sum(mg.segment_sum(v, i, 3)), V, *_FORWARD),
    "sum of rows": (lambda v, i: mnp.sum(mg.segment_sum(v, i, 3), axis=0), W, *_FORWARD),
    "norm of places": (lambda v, i: mnp.sum(mg.segment_sum(v, i, 3) ** 2), WIDE, *_FORWARD),
    "take": (mnp.take, V, *_BOTH),
    "x[i]": (lambda v, i: mnp.take(v, i, axis=0), W, *_BOTH),
    "x[:, i]": (lambda v, i: mnp.take(v, i, axis=1), W, [0, -2, 1], (2, -3)),
    "one index": (lambda v, i: mnp.take(v, i[2]), V, *_BOTH),
    "x[i, j]": (lambda v, i: mnp.reshape(v, (3, 2))[i, i % 2], W, *_BOTH),
    "x[i]**0": (lambda v, i: mnp.sum(mnp.take(v, i) ** 0), V, *_BOTH),
    "along an axis": (lambda v, i: mnp.take_along_axis(v, i, axis=0), V, *_BOTH),
    "at set": (lambda v, i: mnp.at(v)[i].set(1.0), V, *_BOTH),
    "at add": (lambda v, i: mnp.at(v)[i].add(1.0), V, *_BOTH),
    "at multiply": (lambda v, i: mnp.at(v)[i].multiply(2.0), V, *_BOTH),
    "at max": (lambda v, i: mnp.at(v)[i].max(2.0), V, *_BOTH),
    "branch not taken": (lambda v, i: mnp.sum(mnp.where(True, v, mnp.take(v, i))), V, *_BOTH),
    "unread": (unread, V, *_FORWARD),
    "loop": (looped, V, *_FORWARD),
    "scan": (lambda v, i: mg.scan(lambda c, k: (c + mnp.take(v, k), None), 0.0, i)[0], V, *_BOTH),
    "scan, unread": (lambda v, i: mg.scan(lambda c, k: (c + 1.0, mnp.take(v, k)), 0.0, i)[0], V, *_BOTH),
    "checkpoint": (mg.checkpoint(lambda v, i: mnp.sum(mg.segment_sum(v, i, 3))), V, *_FORWARD),
    "cond": (branched, V, *_FORWARD),
}


def total(f):
    return lambda v, i: mnp.sum(f(v, i))


def batched(run):
    return lambda v, i: run(np.stack([v, v]), np.stack([i, i]))


def pairs(run):
    return lambda v, i: run(v, np.stack([i, i]))


WAYS = {
    "eager": lambda f: f,
    "vmap": lambda f: batched(mg.vmap(f)),
    "grad": lambda f: mg.grad(total(f)),
    "jvp": lambda f: lambda v, i: mg.jvp(lambda v: f(v, i), (v,), (v,)),
    **{f"{way}, {backend}": lambda f, make=make, backend=backend: make(f, backend) for backend in ("numpy", "native")
       for way, make in {
           "compiled": lambda f, backend: mg.compile(f, backend=backend),
           "gradient": lambda f, backend: mg.compile(mg.grad(total(f)), backend=backend),
           "batch": lambda f, backend: batched(mg.compile(mg.vmap(f), backend=backend)),
           "mean gradient": lambda f, backend: pairs(mg.compile(mg.grad(mg.mean_loss(total(f), (None, 0))),
                                                                backend=backend)),
       }.items()},
    "per-example gradients": lambda f: pairs(mg.compile(mg.per_example_grad(total(f), in_axes=(None, 0)))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_index_out_of_range_is_an_index_error(name, way):
    f, v, good, bad = PROGRAMS[name]
    if way == "eager" and "scan" in name:
        return  # NumPy's take within a trace is the other ways' matter
    run, good = WAYS[way](f), np.array(good)
    run(v, good)
    for k in bad:
        index = good.copy()
        index[-1] = k
        with pytest.raises(IndexError):
            run(v, index)
    run(v, good)


@pytest.mark.parametrize("f", [segment("segment_sum"), lambda v, i: mnp.sum(mg.segment_sum(v, i, 3))])
def test_the_error_of_a_program_names_the_index_and_the_line(f):
    for backend in ("numpy", "native"):
        with pytest.raises(IndexError, match="index -1 is out of range for an axis of size 3, in i") as info:
            mg.compile(f, backend=backend)(V, np.array([0, -1, 1]))
        assert any("test_segment.py" in note for note in info.value.__notes__)


def summed(v, i):
    return mnp.sum(mg.segment_sum(v, i, 3))


def taken(v, i):
    return mnp.sum(mnp.take(v, i) ** 2)


def dropped(v, i):
    return (mnp.take(v, i), mnp.sum(v))[1]


@pytest.mark.parametrize(("f", "code"), [
    (summed, "return mnp.sum(mg.segment_sum(v, i, 3))"), (taken, r"return mnp.sum(mnp.take(v, i) ** 2)"),
    (dropped, "return (mnp.take(v, i), mnp.sum(v))[1]")])
def test_the_error_of_every_way_begins_with_the_line_and_its_code(f, code):
    line = f.__code__.co_firstlineno + 1
    start = re.escape(f"test_segment.py:{line}: `{code}`: index 7 is out of")
    v, i = np.stack([V, V]), np.array([[0, 1, 2], [0, 7, 1]])
    stepwise = lambda v, i: mg.scan(lambda c, k: (c + f(v, k[None].repeat(3)), None), 0.0, i)[0]  # noqa: E731
    for g in (f, mg.checkpoint(f), lambda v, i: mg.cond(v[0] > 0, f, lambda v, i: v[0], v, i), stepwise):
        for run in (g, mg.grad(g)):
            for program in (mg.vmap(run), *(mg.compile(mg.vmap(run), backend=b) for b in ("numpy", "native"))):
                with pytest.raises(IndexError, match="^" + start) as info:
                    program(v, i)
                assert info.value.__cause__ is None


def test_an_error_of_a_callback_stays_as_it_is():
    def refuse(x):
        raise IndexError("mine")

    for backend in ("numpy", "native"):
        with pytest.raises(IndexError) as info:
            mg.compile(lambda v: mg.callback(refuse, mg.f64[3], v) * 2.0, backend=backend)(V)
        assert str(info.value) == "mine"


def test_a_second_derivative_that_is_zero_checks_the_index():
    for f in (segment("segment_sum"), mg.gather, lambda v, i: mnp.take(v, i)):
        hessian = mg.compile(mg.hessian(total(f)))
        np.testing.assert_array_equal(hessian(V, np.array([0, 2, 1])), np.zeros((3, 3)))
        with pytest.raises(IndexError):
            hessian(V, np.array([0, 3, 1]))


def test_indices_known_to_the_trace_are_refused_at_its_line():
    words = r"test_segment.py:\d+: segment_sum: index 3 is out of range for 3 segments"
    with pytest.raises(mg.BatchError, match=words):
        mg.trace(lambda v: mg.segment_sum(v, np.array([0, 3, 1]), 3))(V)
    with pytest.raises(IndexError, match="say null=-1"):
        mg.segment_sum(V, [0, -1, 1], 3)


@pytest.mark.parametrize("null", [-1, 0, 2, 3, -5])
def test_null_and_negative_indices_mean_the_same_everywhere(null):
    index = np.array([0, 2, -2, 1, null, -3])
    want = np.where(index == null, 0.0, V[np.where(index == null, 0, index)])
    places = np.array([0, 2, null, 1, 2, 0])
    sums = np.zeros(3)
    np.add.at(sums, places[places != null], np.arange(6.0)[places != null])
    ways = [lambda f: f, *(lambda f, b=b: mg.compile(f, backend=b) for b in ("numpy", "native"))]
    for way in (*ways, lambda f: lambda v, i: mg.vmap(f, (None, 0))(v, i[None])[0]):
        np.testing.assert_array_equal(way(lambda v, i: mg.gather(v, i, null))(V, index), want)
        np.testing.assert_array_equal(way(lambda v, i: mg.segment_sum(v, i, 3, null))(np.arange(6.0), places), sums)


def test_no_rows_and_no_places():
    none, nowhere = np.zeros(0), np.array([-1, -1])
    for way in (lambda f: f, mg.compile):
        np.testing.assert_array_equal(way(lambda v, i: mg.gather(v, i))(none, nowhere), np.zeros(2))
        assert way(lambda v, i: mg.segment_sum(v, i, 0, null=-1))(np.ones(2), nowhere).shape == (0,)
        assert way(lambda v, i: mg.segment_sum(v, i, 3))(none, none.astype(int)).tolist() == [0, 0, 0]
        with pytest.raises(IndexError):
            way(lambda v, i: mg.gather(v, i))(none, np.array([-1, 0]))
        with pytest.raises(IndexError):
            way(lambda v, i: mg.segment_sum(v, i, 0))(np.ones(2), np.array([0, 0]))


# -- programs that hold graphs -------------------------------------------------------------------------------


def read(v, i):
    return mnp.sum(mg.gather(v, i) ** 2)


def linear(v, i):
    return mnp.sum(mg.gather(v, i))


def squared(v, i):
    return (mg.gather(v, i), mnp.sum(v ** 2))[1]


def each(f):  # the same without a loop
    return lambda v, i: f(v, i[:1]) + f(v, i[1:2]) + f(v, i[2:])


def one(f):
    return lambda v, k: f(v, k[None])


def stepped(f):
    return lambda v, i: mg.scan(lambda c, k: (c + f(v, k), None), 0.0, i)[0]


def counted(f):
    return lambda v, i: mg.fori_loop(0, 3, lambda k, c: c + f(v, mnp.take(i, k)[None]), 0.0)


def until(f):
    return lambda v, i: mg.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + f(v, mnp.take(i, s[0])[None])),
                                      (0, 0.0))[1]


def choice(f):
    return lambda v, i: mg.cond(v[0] > 0, f, lambda v, i: mnp.sum(v), v, i)


def third(f):
    other = [lambda v, i: v[0], lambda v, i: v[1]]
    return lambda v, i: mg.switch((v[0] > 0).astype(int) * 2, [*other, f], v, i)


def parts(f):
    return lambda v, i: 3 * mg.microbatch(mg.mean_loss(one(f), (None, 0)), 2)(v, i)


def rows(f):
    return lambda v, i: mnp.sum(mg.microbatch(mg.vmap(one(f), (None, 0)), 2)(v, i))


def walked(v, i):  # where a step reads, the step before has read
    def step(state, _):
        k = mnp.take(i, state[0])
        return (k, state[1] + mg.gather(v, k[None])[0]), None

    return mg.scan(step, (0, 0.0), None, length=3)[0][1]


def walked_in_line(v, i):
    first = mnp.take(i, 0)
    second = mnp.take(i, first)
    return mnp.take(v, first) + mnp.take(v, second) + mnp.take(v, mnp.take(i, second))


ruled = mg.custom_vjp(lambda g, out, v, i: (mg.segment_sum(2 * g * v[i], i, 3), None))(read)
ruled_squared = mg.custom_vjp(lambda g, out, v, i: (2 * g * v, None))(squared)
pushed_squared = mg.custom_jvp(lambda t, out, v, i: mnp.sum(2 * v * t[0]))(squared)

# A program that holds a graph, and the same without.
HOLDERS = {
    **{f"{name}, {f.__name__}": (hold(f), f) for f in (read, linear, squared) for name, hold in {
        "checkpoint": mg.checkpoint, "cond": choice, "switch": third}.items()},
    **{f"{name}, {f.__name__}": (hold(f), each(f)) for f in (read, linear, squared) for name, hold in {
        "scan": lambda f: stepped(one(f)), "scan of a checkpoint": lambda f: stepped(mg.checkpoint(one(f))),
        "checkpoint of a scan": lambda f: mg.checkpoint(stepped(one(f))),
        "scan of a cond": lambda f: stepped(choice(one(f))), "fori_loop": counted, "while_loop": until,
        "sums of parts": parts, "rows of parts": rows}.items()},
    "walk": (walked, walked_in_line),
    "custom_vjp": (ruled, read), "custom_vjp, squared": (ruled_squared, squared),
    "custom_jvp, squared": (pushed_squared, squared)}

ONE = {
    "value": lambda f: f,
    "jvp": lambda f: lambda v, i: mg.jvp(lambda v: f(v, i), (v,), (v,)),
    "tangent": lambda f: lambda v, i: mg.jvp(lambda v: f(v, i), (v,), (v,))[1],
    "grad": mg.grad,
    "value_and_grad": mg.value_and_grad,
    "vjp": lambda f: lambda v, i: mg.vjp(lambda v: f(v, i), v)[1](1.0),
    "hvp": lambda f: lambda v, i: mg.hvp(lambda v: f(v, i), (v,), (v,)),
    "hessian": mg.hessian,
    "gradient penalty": lambda f: mg.grad(lambda v, i: mnp.sum(mg.grad(f)(v, i) ** 2)),
}
# A way to run a batch, and what it gives: each example's result, or their mean.
MANY = {
    **{f"vmap, {name}": (lambda f, way=way: mg.vmap(way(f), (None, 0)), name, np.stack) for name, way in ONE.items()},
    "mean": (lambda f: mg.grad(mg.mean_loss(f, (None, 0))), "grad", np.mean),
    "mean, hvp": (lambda f: ONE["hvp"](mg.mean_loss(f, (None, 0))), "hvp", np.mean),
    "microbatch": (lambda f: mg.microbatch(mg.mean_loss(f, (None, 0)), 1), "value", np.mean),
    "microbatch, grad inside": (lambda f: mg.microbatch(mg.grad(mg.mean_loss(f, (None, 0))), 1), "grad", np.mean),
    "microbatch, grad outside": (lambda f: mg.grad(mg.microbatch(mg.mean_loss(f, (None, 0)), 1)), "grad", np.mean),
    "microbatch, per example": (lambda f: mg.microbatch(mg.per_example_grad(f, in_axes=(None, 0)), 1), "grad",
                                np.stack),
}
MACHINE_CODE = ("grad", "hvp", "vmap, value", "vmap, grad", "mean", "microbatch, grad inside")


def flat(values):
    return np.concatenate([np.ravel(x) for x in optree.tree_leaves(values)])


@pytest.mark.parametrize("way", [*ONE, *MANY])
@pytest.mark.parametrize("name", HOLDERS)
def test_held_graphs_match_function_and_refuse_bad_indices(name, way):
    held, plain = HOLDERS[name]
    if "while" in name and way.removeprefix("vmap, ") not in ("value", "jvp", "tangent"):
        return  # the steps of a while_loop are not kept for reverse mode
    good = np.array([[1, 2, 0], [2, 0, 1]])
    if way in ONE:
        transform, good = ONE[way], good[0]
        want = flat(transform(plain)(V, good))
    else:
        transform, of, together = MANY[way]
        want = together([flat(ONE[of](plain)(V, i)) for i in good], axis=0)
    for backend in (None, "numpy", *(["native"] if way in MACHINE_CODE else [])):
        run = transform(held) if backend is None else mg.compile(transform(held), backend=backend)
        have = run(V, good)
        if way in MANY and MANY[way][2] is np.stack:  # the results of an example beside each other
            have = [np.concatenate([np.ravel(x[k]) for x in optree.tree_leaves(have)]) for k in range(2)]
        np.testing.assert_allclose(flat(have), want.ravel(), atol=1e-12)
        for k in (7, -4):
            bad = good.copy()
            bad.reshape(-1)[-2] = k
            with pytest.raises(IndexError):
                run(V, bad)
        np.testing.assert_array_equal(flat(run(V, good)), flat(run(V, good)))


@pytest.mark.parametrize("way", ["value", "grad", "hvp", "hessian"])
@pytest.mark.parametrize("f", [read, linear, squared])
def test_only_turns_and_branches_that_run_check(f, way):
    long, bad = np.array([1, 2, 0, 9]), np.array([9, 9, 9])
    for hold, index in (
            (lambda f: lambda v, i: mg.cond(v[0] > 100, f, lambda v, i: mnp.sum(v ** 3), v, i), bad),
            (lambda f: lambda v, i: mg.scan(lambda c, k: (c + f(v, k[None]), None), mnp.sum(v), i[:0])[0], bad),
            (lambda f: lambda v, i: counted(f)(v, i), long)):
        run = ONE[way](hold(f))
        for program in (run, mg.compile(run), mg.compile(run, backend="numpy")):
            program(V, index)
    batch = mg.vmap(ONE[way](lambda v, i: mg.cond(v[0] > 0, f, lambda v, i: mnp.sum(v ** 3), v, i)))
    for run in (batch, mg.compile(batch)):  # the second example takes the other branch
        run(np.stack([V, -V]), np.stack([np.array([1, 2, 0]), bad]))
        with pytest.raises(IndexError):
            run(np.stack([V, V]), np.stack([np.array([1, 2, 0]), bad]))


def test_checks_that_a_derivative_makes_anyway_are_made_once():
    """The loop that only checks is there where no other one makes its checks."""
    def loops(f, *args):
        return passes.run(mg.trace(f)(*args))[0].count("scan", "chunked")

    i = np.array([1, 2, 0])
    for f in (read, linear):
        assert loops(stepped(one(f)), V, i) == 0  # of all steps at once
        assert loops(mg.grad(stepped(one(f))), V, i) == loops(mg.value_and_grad(stepped(one(f))), V, i) == 1  # back
        assert loops(mg.grad(parts(f)), V, i) == loops(mg.value_and_grad(parts(f)), V, i) == 1
    assert loops(mg.grad(stepped(one(squared))), V, i) == 0
    assert loops(walked, V, i) == loops(mg.grad(walked), V, i) == loops(mg.value_and_grad(walked), V, i) == 1


# -- examples of different size ------------------------------------------------------------------------------

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    x: mg.f64[node]
    at: mg.i64[edge]  # not declared as an index: a number like any other


RAGGED = {
    "sum": lambda g: mg.segment_sum(g.at * 1.0, g.at, g.x.shape[0]),
    "total": lambda g: np.sum(mg.segment_sum(g.at * 1.0, g.at, g.x.shape[0])),
    "max": lambda g: mg.segment_max(g.at * 1.0, g.at, g.x.shape[0]),
    "null": lambda g: mg.segment_sum(g.at * 1.0, g.at, g.x.shape[0], null=-1),
    "gather": lambda g: mg.gather(g.x, g.at),
    "x[i]": lambda g: g.x[g.at],
    "unread": lambda g: (g.x[g.at], np.sum(g.x))[1],
}


@pytest.mark.parametrize("name", RAGGED)
def test_an_index_is_out_of_range_of_its_own_example(name):
    f = RAGGED[name]
    good = [Graph(np.arange(3.0), np.array([0, 2, 1])), Graph(np.ones(1), np.array([0])),
            Graph(np.arange(4.0), np.zeros(0, int))]
    for run in (mg.vmap(f), mg.compile(mg.vmap(f)), mg.compile(mg.vmap(f), backend="numpy")):
        have = run(mg.batch(good))
        for a, g in zip(have.unbatch() if isinstance(have, mg.Batch) else have, good, strict=True):
            np.testing.assert_allclose(a, f(g))
        bad = (1, -2) if name in ("gather", "x[i]", "unread", "null") else (1, -1)
        for k in bad:  # a row of the first example, or of the last
            said = rf"^test_segment.py:\d+: `\"{re.escape(name)}\": lambda g: .*`: index {k} is "
            with pytest.raises(IndexError, match=said):
                run(mg.batch([good[0], Graph(np.ones(1), np.array([k])), good[2]]))


@pytest.mark.parametrize("null", [None, -1])
def test_gradients_of_no_index(null):
    none = np.zeros(0, int)
    more = {} if null is None else {"null": null}
    for f in (lambda x: np.sum(mg.gather(x, none, **more)), lambda x: np.sum(mg.segment_sum(x[:0], none, 2, **more))):
        np.testing.assert_array_equal(mg.grad(f)(np.ones(3)), np.zeros(3))
    np.testing.assert_array_equal(mg.grad(lambda x, i: np.sum(mg.gather(x, i, **more)))(np.ones(3), none), np.zeros(3))
