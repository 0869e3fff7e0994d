"""Random programs of nested loops and branches, of few turns, against the Python loops that they stand for.

A program is a list of statements, each of which makes a vector of those before it. It runs in one of two
languages: `Python`, on plain loops, and `Minigrad`. Operands are drawn with repetition, so steps read one value
twice, states stand for each other, and loops of no turn return what they were given.
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.graph import Graph

X = np.array([0.3, -0.7, 1.1])
V = np.array([1.0, -0.5, 0.25])


# -- two languages -------------------------------------------------------------------------------------------


class Python:
    """Loops that Python runs itself, so that a trace sees them unrolled, and a choice between two results."""

    @staticmethod
    def fori(n, body, state):
        for _ in range(n):
            state = body(state)
        return state

    @staticmethod
    def scan(step, state, xs, reverse):
        n = len(xs)
        ys = [0.0 * state[0]] * n
        for k in reversed(range(n)) if reverse else range(n):
            state, ys[k] = step(state, xs[k])
        return state, sum(ys, 0.0 * state[0])

    @staticmethod
    def cond(positive, yes, no, operands):
        return [np.where(positive, a, b) for a, b in zip(yes(*operands), no(*operands), strict=True)]


class Minigrad:
    """The same, held in the graph."""

    @staticmethod
    def fori(n, body, state):
        return mg.fori_loop(0, n, lambda i, s: body(s), state)

    @staticmethod
    def scan(step, state, xs, reverse):
        state, ys = mg.scan(step, state, xs, reverse=reverse)
        return state, np.sum(ys, axis=0)

    @staticmethod
    def cond(positive, yes, no, operands):
        return mg.cond(positive, yes, no, *operands)


UNARY = (np.sin, np.tanh, np.flip, lambda x: 0.3 * np.cumsum(x), lambda x: x * x, lambda x: 0.5 * np.sort(x))
BINARY = (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: np.where(a > 0.1, a, b), np.maximum,
          lambda a, b: np.einsum("i,i->", a, b) * a, lambda a, b: a - 0.5 * b)


def run(statements, values, turns, language):
    """Return all vectors that a program makes of `values`."""
    values = list(values)

    def pick(i):
        return values[i % len(values)]

    def inner(body, *more):
        found = run(body, [*values, *more], turns, language)
        return found[-1], found[-2]

    for kind, i, j, *rest in statements:
        if kind == "unary":
            values.append(UNARY[rest[0]](pick(i)))
        elif kind == "binary":
            values.append(BINARY[rest[0]](pick(i), pick(j)))
        elif kind == "fori":
            n, body = rest
            values += map(np.tanh, language.fori(turns[n], lambda s, b=body: inner(b, *s), (pick(i), pick(j))))
        elif kind == "scan":
            n, body, reverse = rest
            xs = np.linspace(0.5, 1.0, 2)[:n, None] * pick(j)

            def step(s, x, b=body):
                a, c = inner(b, x, *s)
                return (a, c), a * x

            state, total = language.scan(step, (pick(i), pick(j)), xs, reverse)
            values += map(np.tanh, (*state, total))
        else:
            yes, no = rest
            values += language.cond(pick(i).sum() > 0, lambda a, b, s=yes: inner(s, a, b),
                                    lambda a, b, s=no: inner(s, a, b), (pick(j), pick(j)))
    return values


# -- programs ------------------------------------------------------------------------------------------------

INDEX = st.integers(0, 5)
TURNS = st.integers(0, 2)
SIMPLE = st.one_of(st.tuples(st.just("unary"), INDEX, INDEX, st.integers(0, len(UNARY) - 1)),
                   st.tuples(st.just("binary"), INDEX, INDEX, st.integers(0, len(BINARY) - 1)))


def holding(bodies):
    body = st.lists(bodies, max_size=2)
    return st.one_of(SIMPLE, st.tuples(st.just("fori"), INDEX, INDEX, TURNS, body),
                     st.tuples(st.just("scan"), INDEX, INDEX, TURNS, body, st.booleans()),
                     st.tuples(st.just("cond"), INDEX, INDEX, body, body))


PROGRAMS = st.lists(holding(holding(SIMPLE)), min_size=1, max_size=3)
FEW = settings(max_examples=-(-settings.default.max_examples // 5))  # each compiles several programs


def values_of(program, x, turns, language):
    """Return all that a program makes, each result read twice more, as its own last readers."""
    made = run(program, [np.sin(x), np.cos(x)], turns, language)
    return [np.cumsum(v) + v for v in made], np.stack(made).sum()


def close(have, want):
    np.testing.assert_allclose(have, want, rtol=1e-8, atol=1e-9)


def checked(f, backend):
    """Return the compiled function; each pass leaves a well-formed graph."""
    compiled = mg.compile(f, backend=backend)

    def call(*args):
        found = compiled(*args)
        for stage in compiled.stages:
            if isinstance(stage.after, Graph):
                stage.after.check()
        return found

    return call


@pytest.mark.parametrize("traced", [False, True], ids=["turns known", "turns traced"])
@FEW
@given(program=PROGRAMS)
def test_loops_are_the_python_loops(traced, program):
    turns = np.arange(3)
    want, total = values_of(program, X, turns, Python)

    def f(x, n):
        return values_of(program, x, n if traced else turns, Minigrad)

    for call in (f, *(checked(f, backend) for backend in ("numpy", "native"))):
        x, n = X.copy(), turns.copy()
        for _ in range(2):
            if call is f and traced:
                break  # a traced count needs a trace
            have, sum_ = call(x, n)
            close(have, want)
            close(sum_, total)
            for array in have:  # the caller's own: the next call must not see it
                array[...] = np.nan
            np.testing.assert_array_equal(x, X)


@FEW
@given(program=PROGRAMS)
def test_loop_derivatives_equal_python_loops(program):
    def loss(language, x):
        return values_of(program, x, np.arange(3), language)[1]

    def derivatives(language):
        f = functools.partial(loss, language)
        slope = mg.grad(f)
        return lambda x: (f(x), slope(x), mg.grad(lambda x: (slope(x) * V).sum())(x), mg.jvp(slope, (x,), (V,))[1])

    want = derivatives(Python)(X)
    held = derivatives(Minigrad)
    for call in (held, checked(held, "native")):
        for have, wanted in zip(call(X), want, strict=True):
            close(have, wanted)


@FEW
@given(program=PROGRAMS)
def test_batched_and_microbatched_loops_are_the_python_loops(program):
    def loss(language, w, x):
        return values_of(program, w * x, np.arange(3), language)[1]

    xs = np.stack([X, -X, X[::-1]])
    want = mg.value_and_grad(lambda w: sum(loss(Python, w, x) for x in xs) / 3)(V)
    mean = mg.mean_loss(functools.partial(loss, Minigrad), (None, 0))
    for f, backend in ((mean, "native"), (mg.microbatch(mean, 2), "numpy")):
        for have, wanted in zip(checked(mg.value_and_grad(f), backend)(V, xs), want, strict=True):
            close(have, wanted)
