"""Values that a program prints, and stops at: per example, in order, under every transform."""

import re
import sys

import numpy as np
import pytest

import minigrad as mg

X = np.array([0.5, 1.0])
PAIRS = ["h 0.76", "h 0.96", "s 0.58 mode", "s 0.93 mode"]  # of both examples, statement by statement
STEPS = ["h 0.76", "s 0.58 mode", "h 0.96", "s 0.93 mode"]  # step by step


def loss(w, x):
    h = np.tanh(w * x)
    mg.print("h {:.2f}", h)
    s = h**2
    mg.print("s {s:.2f} {}", "mode", s=s)
    return s


def inner(w, x):
    """An effect that results of an inner transform wait for, and that later values depend on."""
    return np.exp(mg.mean_loss(loss, in_axes=(None, 0))(w, x * np.ones(1)))


MEAN, NESTED = (mg.mean_loss(f, in_axes=(None, 0)) for f in (loss, inner))
CHOICE = mg.mean_loss(lambda w, x: mg.cond(x > 0.7, inner, lambda w, x: w * x, w, x), in_axes=(None, 0))


def steps(w, X):
    return mg.scan(lambda c, x: (np.sin(c + inner(w, x)), None), 0.0, X)[0]


def sums(w, X):
    return mg.scan(lambda c, x: (c + loss(w, x), None), 0.0, X)[0]


def counted(w, X):
    return mg.while_loop(lambda s: s[0] < 3, lambda s: (mg.print("i {}", s[0]), (s[0] + 1, s[1] * w))[1], (0, 1.0))[1]


def unused(w, X):
    loss(w, X[0])
    return w * X


def whole(w, X):
    mg.print("n {} {}", X.shape[0], np.mean(X))
    return MEAN(w, X)


def invariant(w, X):
    return mg.scan(lambda c, x: (mg.print("w {}", w), (c * x, None))[1], w, X)[0]


CASES = {
    "mean": (MEAN, PAIRS), "grad": (mg.grad(MEAN), PAIRS), "value_and_grad": (mg.value_and_grad(MEAN), PAIRS),
    "jvp": (lambda w, X: mg.jvp(MEAN, (w, X), (1.0, X)), PAIRS),
    "vjp": (lambda w, X: mg.vjp(MEAN, w, X)[1](1.0), PAIRS),
    "hessian": (mg.hessian(MEAN), PAIRS), "hvp": (lambda w, X: mg.hvp(MEAN, (w, X), (1.0, X)), PAIRS),
    "jacobian": (mg.jacobian(mg.vmap(loss, in_axes=(None, 0))), PAIRS),
    "per_example_grad": (mg.per_example_grad(loss, in_axes=(None, 0)), PAIRS),
    "norms": (mg.per_example.norms(loss, in_axes=(None, 0)), PAIRS),
    "checkpoint": (mg.grad(mg.mean_loss(mg.checkpoint(loss), in_axes=(None, 0))), PAIRS),
    "nested checkpoint": (mg.value_and_grad(mg.checkpoint(lambda w, X: np.exp(NESTED(w, X)))), PAIRS),
    "microbatch": (mg.grad(mg.microbatch(MEAN, 1)), STEPS),
    "nested microbatch": (mg.value_and_grad(mg.microbatch(NESTED, 1)), STEPS),
    "scan": (mg.grad(sums), STEPS), "nested scan": (mg.value_and_grad(steps), STEPS),
    "hessian of scan": (mg.hessian(steps), STEPS), "cond": (mg.value_and_grad(CHOICE), STEPS[2:]),
    "jvp of cond": (lambda w, X: mg.jvp(CHOICE, (w, X), (1.0, X)), STEPS[2:]),
    "while": (counted, ["i 0", "i 1", "i 2"]),
    "unused result": (unused, STEPS[:2]), "whole batch": (whole, ["n 2 0.75", *PAIRS]),
    "the same in every step": (mg.grad(invariant), ["w 2.0", "w 2.0"])}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize(("f", "lines"), CASES.values(), ids=CASES)
def test_each_run_prints_each_example_once_in_order(run, f, lines, capsys):
    f = run(f)
    for _ in range(2):
        f(2.0, X)
        assert capsys.readouterr().out.splitlines() == lines


def test_printing_changes_no_value():
    plain = mg.value_and_grad(mg.mean_loss(lambda w, x: np.tanh(w * x) ** 2, in_axes=(None, 0)))
    np.testing.assert_array_equal(mg.value_and_grad(MEAN)(2.0, X), plain(2.0, X))


def test_values_without_a_format(capsys):
    mg.compile(lambda x: (mg.print(x, {"a": x + 1}, "end"), x)[1])(1.0)
    mg.print(X)
    assert capsys.readouterr().out == f"1.0 {{'a': {np.float64(2.0)!r}}} end\n[0.5 1. ]\n"


def test_a_callback_without_a_result_runs_once_for_each_example():
    seen = []

    def note(w, x):
        seen.append((float(w), float(x)))

    f = mg.vmap(lambda w, x: (mg.callback(note, None, w, x), w * x)[1], in_axes=(None, 0))
    for run in (f, mg.compile(f), mg.grad(lambda w, X: f(w, X).sum())):
        seen.clear()
        run(2.0, X)
        assert seen == [(2.0, 0.5), (2.0, 1.0)]
    assert mg.callback(lambda x: x + 1, None, 1.0) is None


def test_an_error_in_an_effect_comes_out():
    def refuse(x):
        raise ValueError("too large")

    with pytest.raises(ValueError, match="too large"):
        mg.compile(lambda x: (mg.callback(refuse, None, x), x)[1])(1.0)


@pytest.fixture
def stops(monkeypatch):
    found = []

    def hook():
        frame = sys._getframe(1)
        found.append((frame.f_code.co_filename, frame.f_lineno, dict(frame.f_locals)))

    monkeypatch.setattr(sys, "breakpointhook", hook)
    return found


def watched(w, x):
    h = np.tanh(w * x)
    name = "watched"
    mg.breakpoint()
    return h * len(name)


LINE = watched.__code__.co_firstlineno + 3


@pytest.mark.parametrize("run", [lambda f: f, mg.compile, lambda f: mg.grad(lambda w, X: f(w, X).sum())],
                         ids=["eager", "compiled", "gradient"])
def test_a_breakpoint_has_the_values_of_each_example(stops, run):
    run(mg.vmap(watched, in_axes=(None, 0)))(2.0, X)
    assert [(path, line) for path, line, _ in stops] == [(__file__, LINE)] * 2
    for (_, _, values), x in zip(stops, X, strict=True):
        assert values == {"w": 2.0, "x": x, "h": pytest.approx(np.tanh(2.0 * x)), "name": "watched"}


def test_a_breakpoint_outside_of_programs_and_with_chosen_values(stops):
    watched(2.0, 0.5)
    mg.compile(lambda x: (mg.breakpoint(double=2 * x), x)[1])(1.5)
    assert [values for _, _, values in stops] == [{"w": 2.0, "x": 0.5, "h": np.tanh(1.0), "name": "watched"},
                                                  {"double": 3.0}]


# -- held graphs ---------------------------------------------------------------------------------------------

def printed(name):
    def body(w, x):
        h = np.tanh(w * x)
        mg.print(name + " {:.2f}", h)
        return h * x

    return body


def first_then(run):
    """Return a loss that prints "a" within `run` and "b" of its result."""
    def f(w, x):
        h = run(w, x)
        mg.print("b {:.2f}", h)
        return h * h

    return f


def other(w, x):
    return w


def two(w, x):
    h = np.tanh(w * x)
    mg.print("a {:.2f}", h)
    k = np.sin(w * x)
    mg.print("b {:.2f}", k)
    return h, k


def twice(w, x):
    f = mg.checkpoint(printed("a"))
    h = f(w, x) * f(w, x)
    mg.print("same {:.2f}", h)
    mg.print("same {:.2f}", h)
    return h


def noted(w, x):
    h = np.tanh(w * x)
    mg.callback(lambda h: print(f"c {h:.2f}"), None, h)
    return h


@mg.custom_vjp(lambda g, out, w, x: (g * x, g * w))
def reverse(w, x):
    return printed("a")(w, x)


@mg.custom_jvp(lambda t, out, w, x: t[0] * x + t[1] * w)
def forward(w, x):
    return printed("a")(w, x)


def steps_of(run):
    return lambda w, x: mg.scan(lambda c, _: (run(c, x), None), w, np.arange(2.0))[0]


def plain(w, x):
    mg.print("w {}", w)
    mg.print("plain")
    return w * x


def shared(run):
    """Return a loss in which no value within `run` depends on the example."""
    return lambda w, x: run(w, 2.0) * x


def turns(w, x):
    def step(s):
        mg.print("turn")
        printed("i")(w, s[0])
        return s[0] + 1, s[1] * w

    return mg.while_loop(lambda s: s[0] < 2, step, (0, 1.0))[1]


CHECKPOINT = first_then(mg.checkpoint(printed("a")))
COND = first_then(lambda w, x: mg.cond(x > 0.2, printed("a"), other, w, x))
HELD = {
    "checkpoint": CHECKPOINT, "cond": COND,
    "switch": first_then(lambda w, x: mg.switch(np.where(x > 0.2, 1, 0), [other, printed("a"), printed("z")], w, x)),
    "checkpoint in a checkpoint": first_then(mg.checkpoint(CHECKPOINT)),
    "cond in a checkpoint": first_then(mg.checkpoint(COND)),
    "checkpoint in cond": first_then(lambda w, x: mg.cond(x > 0.2, mg.checkpoint(CHECKPOINT), other, w, x)),
    "one result of two": lambda w, x: mg.checkpoint(two)(w, x)[1],
    "no result of a checkpoint": lambda w, x: (mg.checkpoint(two)(w, x), w * x)[1],
    "no result of cond": lambda w, x: (mg.cond(x > 0.2, printed("a"), other, w, x), w * x)[1],
    "equal lines": twice, "callback": first_then(mg.checkpoint(noted)),
    "custom vjp": first_then(reverse), "custom jvp": first_then(forward),
    "custom vjp in a checkpoint": first_then(mg.checkpoint(first_then(reverse))),
    "no result of a custom function": lambda w, x: (reverse(w, x), w * x)[1],
    "scan": first_then(steps_of(printed("a"))),
    "no result of a scan": lambda w, x: (steps_of(printed("a"))(w, x), w * x)[1],
    "checkpoint in a scan": first_then(steps_of(mg.checkpoint(CHECKPOINT))),
    "custom in a scan": steps_of(reverse), "cond in a scan": steps_of(COND), "no example": plain,
    **{f"no example in {name}": shared(run) for name, run in {
        "a checkpoint": mg.checkpoint(plain), "a scan": steps_of(plain), "cond": COND, "a custom function": reverse,
        "a checkpoint in a scan": steps_of(mg.checkpoint(plain))}.items()}}
OF_ONE = {
    "value": lambda f: mg.mean_loss(f, in_axes=(None, 0)), "vmap": lambda f: mg.vmap(f, in_axes=(None, 0)),
    "gradient": lambda f: mg.grad(OF_ONE["value"](f)), "both": lambda f: mg.value_and_grad(OF_ONE["value"](f)),
    "hessian": lambda f: mg.hessian(OF_ONE["value"](f)),
    "jvp": lambda f: lambda w, X: mg.jvp(lambda w: OF_ONE["value"](f)(w, X), (w,), (1.0,)),
    "gradient of each": lambda f: mg.per_example_grad(f, in_axes=(None, 0)),
    "norms": lambda f: mg.per_example.norms(f, in_axes=(None, 0)),
    "microbatch": lambda f: mg.grad(mg.microbatch(OF_ONE["value"](f), 1)),
    "microbatch of each": lambda f: mg.microbatch(OF_ONE["gradient of each"](f), 1, in_axes=(None, 0))}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("f", HELD.values(), ids=HELD)
def test_held_graphs_print_once(f, run, capsys):
    def lines(f, *args):
        f(*args)
        return capsys.readouterr().out.splitlines()

    one, other = (lines(f, 2.0, x) for x in X)
    assert len(one) == len(other) > 0
    assert lines(run(mg.grad(f)), 2.0, X[0]) == one
    for name, transform in OF_ONE.items():
        pairs = zip(one, other, strict=True)
        expected = [*one, *other] if "microbatch" in name else [line for pair in pairs for line in pair]
        assert lines(run(transform(f)), 2.0, X) == expected, name


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
def test_copies_of_a_graph_print_as_its_calls(run, capsys):
    graph = mg.trace(plain)(2.0, 0.5)
    for f in (mg.unroll(plain, 2, in_axes=(None, 0)), mg.grad(mg.unroll(plain, 2, in_axes=(None, 0))),
              graph.unroll(2, in_axes=(None, 0)), lambda w, X: graph(w, X[0]) + graph(w, X[1])):
        run(f)(2.0, X)
        assert capsys.readouterr().out.splitlines() == ["w 2.0", "plain"] * 2


@pytest.mark.parametrize("run", [lambda f: f, mg.compile], ids=["eager", "compiled"])
def test_copies_without_a_result_print_and_check(run, capsys):
    def shown(w, i):
        mg.print("{:.1f}", w[i])
        return ()

    f = run(mg.unroll(shown, 2, in_axes=(None, 0)))
    assert f(X, np.array([1, 0])) == ()
    assert capsys.readouterr().out.splitlines() == ["1.0", "0.5"]
    with pytest.raises(IndexError, match="index 9 is out of range"):
        f(X, np.array([1, 9]))


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("transform", [mg.grad, mg.value_and_grad], ids=["gradient", "both"])
def test_rules_of_a_microbatch_print_pass_by_pass(transform, run, capsys):
    def rule(g, out, x):
        mg.print("back {:.0f}", x)
        return (2 * x * g,)

    square = mg.custom_vjp(rule)(np.square)

    def f(w, x):
        mg.print("there {:.0f}", x)
        return square(w * x)

    run(transform(mg.microbatch(mg.mean_loss(f, in_axes=(None, 0)), 2)))(1.0, np.arange(1.0, 4.0))
    assert capsys.readouterr().out.splitlines() == ["there 1", "there 2", "back 1", "back 2", "there 3", "back 3"]


def made(name, rule):
    """Return the sine with a derivative rule that prints, by `rule`, mg.custom_vjp or mg.custom_jvp."""
    def derivative(g, out, x):
        g = g if rule is mg.custom_vjp else g[0]
        mg.print(name + " slope {:.2f}", g)
        return (g * np.cos(x),) if rule is mg.custom_vjp else g * np.cos(x)

    @rule(derivative)
    def sine(x):
        mg.print(name + " {:.2f}", x)
        return np.sin(x)

    return sine


def chain(rule):
    f, g = made("f", rule), made("g", rule)

    def loss(x):
        y = f(x)
        mg.print("middle")
        z = g(y)
        mg.print("end")
        return z * z

    return loss


FORTH, BACK = ["f 1.00", "middle", "g 0.84", "end"], ["g slope 1.49", "f slope 0.99"]
RULES = {"gradient": (mg.grad(chain(mg.custom_vjp)), FORTH + BACK),
         "gradient of a checkpoint": (mg.grad(mg.checkpoint(chain(mg.custom_vjp))), FORTH + BACK),
         "gradient of a branch": (mg.grad(lambda x: mg.cond(x > 0, chain(mg.custom_vjp), np.sin, x)), FORTH + BACK),
         "forward mode": (lambda x: mg.jvp(chain(mg.custom_jvp), (x,), (1.0,)),
                          [*FORTH, "f slope 1.00", "g slope 0.54"]),
         "hessian": (mg.hessian(chain(mg.custom_vjp)), [*FORTH, *BACK, "g slope 0.72", "f slope -0.12"]),
         "other mode": (mg.grad(chain(mg.custom_jvp)), FORTH),  # the transpose of the rule is not given a tangent
         "scan": (mg.grad(lambda x: mg.scan(lambda c, _: (made("f", mg.custom_vjp)(c), None), x, np.arange(2.0))[0]),
                  ["f 1.00", "f 0.84", "f slope 1.00", "f slope 0.67"])}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("name", RULES)
def test_derivative_rules_print_after_the_lines_of_the_function(name, run, capsys):
    f, lines = RULES[name]
    run(f)(1.0)
    assert capsys.readouterr().out.splitlines() == lines
    run(mg.vmap(f))(np.ones(2))
    assert capsys.readouterr().out.splitlines() == [line for line in lines for _ in range(2)]


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("f", [turns, shared(turns)], ids=["each its own", "the same"])
def test_loops_of_unknown_length_print_each_turn_of_each_example(f, run, capsys):
    mean = mg.mean_loss(f, in_axes=(None, 0))
    for g in (mean, mg.vmap(f, in_axes=(None, 0)), lambda w, X: mg.jvp(lambda w: mean(w, X), (w,), (1.0,))):
        run(g)(2.0, X)
        lines = ["turn", "turn", "i 0.00", "i 0.00", "turn", "turn", "i 0.96", "i 0.96"]
        assert capsys.readouterr().out.splitlines() == lines


# -- functions without results -------------------------------------------------------------------------------

def shown(x):
    mg.print("x {}", x)


def nothing(x):
    mg.print("x {}", x)
    return ()


def shown_within(x):
    """Return a sum beside effects that no result reads."""
    mg.vmap(shown)(x)
    mg.checkpoint(nothing)(x[0])
    mg.scan(lambda c, x: (shown(x), (None, ()))[1], None, x)
    mg.fori_loop(0, 1, lambda i, s: nothing(i), ())
    mg.vmap(lambda x: mg.cond(x > 0.7, lambda: shown(x), lambda: None))(x)
    return np.sum(x**2)


ALONE = {"no effect": (mg.vmap(lambda x: ()), X, (), []),
         "no effect of a batch": (mg.vmap(lambda g: ()), mg.batch([np.ones(2)], mg.f64[mg.axis("k")]), (), []),
         "None": (shown, 1.0, None, ["x 1.0"]), "()": (nothing, 1.0, (), ["x 1.0"]),
         "vmap": (mg.vmap(shown), X, None, ["x 0.5", "x 1.0"]),
         "checkpoint": (mg.checkpoint(nothing), 1.0, (), ["x 1.0"]),
         "microbatch": (mg.microbatch(mg.vmap(shown), 1), X, None, ["x 0.5", "x 1.0"]),
         "scan": (lambda X: mg.scan(lambda c, x: ((), nothing(x)), (), X), X, ((), ()), ["x 0.5", "x 1.0"]),
         "fori_loop": (lambda x: mg.fori_loop(0, 2, lambda i, s: nothing(i * x), ()), 1.0, (), ["x 0.0", "x 1.0"]),
         "branch taken": (lambda x: mg.cond(x > 0, shown, lambda x: None, x), 1.0, None, ["x 1.0"]),
         "branch not taken": (lambda x: mg.cond(x > 0, shown, lambda x: None, x), -1.0, None, []),
         "branches of examples": (mg.vmap(lambda x: mg.cond(x > 0.7, shown, lambda x: None, x)), X, None, ["x 1.0"]),
         "switch": (lambda x: mg.switch(x, [nothing, lambda x: ()], x), 0, (), ["x 0"]),
         "vjp": (lambda x: mg.vjp(nothing, x)[1](()), 1.0, (0.0,), ["x 1.0"]),
         "jvp": (lambda x: mg.jvp(nothing, (x,), (1.0,)), 1.0, ((), ()), ["x 1.0"]),
         "graph": (lambda x: mg.trace(nothing)(1.0)(x), 1.0, (), ["x 1.0"])}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
def test_functions_without_results_run_for_their_effects(run, capsys):
    for name, (f, x, result, lines) in ALONE.items():
        assert run(f)(x) == result, name
        assert capsys.readouterr().out.splitlines() == lines, name
    lines = ["x 0.5", "x 1.0", "x 0.5", "x 0.5", "x 1.0", "x 0", "x 1.0"]
    for f in (shown_within, mg.grad(shown_within), mg.hessian(shown_within), mg.checkpoint(shown_within)):
        run(f)(X)
        assert capsys.readouterr().out.splitlines() == lines


def test_a_function_without_result_and_effect_is_refused():
    for f in (mg.compile(lambda x: None), mg.vmap(lambda x: None), mg.checkpoint(lambda x: None), mg.grad(shown),
              mg.compile(lambda x: mg.cond(x[0] > 0, lambda: None, lambda: None))):
        with pytest.raises(mg.TraceError, match="returned None"):
            f(X)
    with pytest.raises(mg.BatchError, match=r"over the batch it came out as a NoneType. Did you forget `return`\?"):
        mg.mean_loss(shown)(X)
    with pytest.raises(mg.GradError, match="returns 0 values, and a gradient needs one number"):
        mg.grad(nothing)(1.0)


# -- ragged batches ------------------------------------------------------------------------------------------

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    x: mg.f64[node, 2]
    target: mg.index(node)[edge]
    distance: mg.f64[node, node]


def of_graph(w, g):
    mg.print("{}", (w, (g.x * w).T, g.target, g.distance * 1.0))
    total = np.sum(g.x * w)
    mg.print("{:.1f}", total)
    return total


GRAPHS = [Graph(np.arange(2.0 * n).reshape(n, 2), np.arange(n)[::-1][:m].copy(), np.arange(1.0 * n * n).reshape(n, n))
          for n, m in ((0, 0), (2, 1), (3, 3), (0, 0))]
OF_GRAPHS = mg.mean_loss(of_graph, in_axes=(None, 0))
RAGGED = {"vmap": mg.vmap(of_graph, in_axes=(None, 0)), "gradient": mg.grad(OF_GRAPHS),
          "microbatch": mg.grad(mg.microbatch(OF_GRAPHS, 1))}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("name", RAGGED)
def test_ragged_examples_print_their_own_rows(name, run, capsys):
    for g in GRAPHS:
        of_graph(2.0, g)
    expected = capsys.readouterr().out.splitlines()
    run(RAGGED[name])(2.0, mg.batch(GRAPHS))
    lines = capsys.readouterr().out.splitlines()
    if name != "microbatch":  # all examples at each statement
        rows, totals = ([line for line in expected if line.startswith("(") == side or line[0] in " ["]
                        if side else [line for line in expected if line[0].isdigit()] for side in (True, False))
        assert lines == rows + totals
    else:
        assert lines == expected


# -- loops over ragged axes ----------------------------------------------------------------------------------

def along(w, g):
    def step(c, x):
        mg.print("x {:.0f}", x[0])
        return np.tanh(c * w + x[0]), None

    return mg.scan(step, 0.0, g.x)[0]


def pairs(w, g):
    def step(c, x):
        def inner(d, y):
            mg.print("{:.0f} {:.0f}", x[0], y[0])
            return np.tanh(d * w + y[0] * x[0]), None

        return mg.scan(inner, c, g.x)[0], None

    return mg.scan(step, 0.0, g.x)[0]


def beside(w, g):
    def step(c, t):
        mg.print("{} {:.0f}", t, np.sum(g.x))
        return np.tanh(c * w + np.sum(g.x)), None

    return mg.scan(step, 0.0, np.arange(2))[0]


def branch(w, g):
    def many():
        mg.print("{} rows", g.x.shape[0] + 0)
        return np.sum(g.x) * w

    return mg.cond(g.x.shape[0] > 2, many, lambda: 1.0 * w)


def doubled(w, g):
    def step(state):
        mg.print("{:.0f}", state[0])
        return state[0] * 2, state[1] * w

    return mg.while_loop(lambda state: state[0] < 20, step, (np.sum(g.x) + 9, 1.0))[1]


LOOPS = {along: ["x 0", "x 0", "x 2", "x 2", "x 4"], branch: ["3 rows"],  # step by step, the longest example first
         pairs: [*("0 0", "0 0", "0 2", "0 2", "0 4"), *("2 0", "2 0", "2 2", "2 2", "2 4"), "4 0", "4 2", "4 4"],
         beside: ["0 0", "0 6", "0 15", "0 0", "1 0", "1 6", "1 15", "1 0"],
         doubled: ["9", "15", "9", "18", "18"]}
FORWARD = {"value": lambda f: mg.mean_loss(f, in_axes=(None, 0)),
           "jvp": lambda f: lambda w, b: mg.jvp(lambda w: FORWARD["value"](f)(w, b), (w,), (1.0,)),
           "jvp of a checkpoint": lambda f: FORWARD["jvp"](mg.checkpoint(f))}
REVERSE = {"gradient": lambda f: mg.grad(FORWARD["value"](f)),
           "value and gradient": lambda f: mg.value_and_grad(FORWARD["value"](f)),
           "gradient of each": lambda f: mg.per_example_grad(f, in_axes=(None, 0)),
           "hvp": lambda f: lambda w, b: mg.hvp(lambda w: FORWARD["value"](f)(w, b), (w,), (1.0,)),
           "hessian": lambda f: mg.hessian(FORWARD["value"](f)),
           "checkpoint": lambda f: mg.grad(FORWARD["value"](mg.checkpoint(f)))}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_ragged_loops_print_each_step_once(f, run, capsys):
    for name, transform in (FORWARD if f is doubled else FORWARD | REVERSE).items():
        run(transform(f))(2.0, mg.batch(GRAPHS))
        assert capsys.readouterr().out.splitlines() == LOOPS[f], name


def line(value, *lines):
    """Print lines that no example changes, and return the value."""
    for text in lines:
        mg.print(text)
    return value


SHARED = {"value": lambda w, g: line(w * np.sum(g.x), "a"), "weight": lambda w, g: line(w * np.sum(g.x), w),
          "ragged scan": lambda w, g: mg.scan(lambda c, x: line((np.sin(c + x[0]), None), "step", w), w, g.x)[0],
          "scan": lambda w, g: mg.scan(lambda c, _: line((np.sin(c * w), None), "step", g.x.shape[0] * 1), w,
                                       np.arange(2.0))[0],
          "each its branch": lambda w, g: mg.cond(np.sum(g.x) > 1, lambda: line(w * np.sum(g.x), "more"), lambda: w),
          "branch": lambda w, g: mg.cond(w > 1, lambda: line(w * np.sum(g.x), "above"), lambda: line(w, "below")),
          "checkpoint": lambda w, g: mg.checkpoint(lambda x: line(w * np.sum(x), "a", w))(g.x),
          "shared checkpoint": lambda w, g: mg.checkpoint(lambda w: line(w * w, "a"))(w) * np.sum(g.x),
          "vmap": lambda w, g: np.sum(mg.vmap(lambda z: line(z * w, "a", w, z))(np.arange(2.0))) * np.sum(g.x)}


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("name", SHARED)
def test_lines_that_no_example_changes_come_once_for_each(name, run, capsys):
    f = SHARED[name]
    mean = mg.mean_loss(f, in_axes=(None, 0))
    for g in GRAPHS:
        f(2.0, g)
    expected = sorted(capsys.readouterr().out.splitlines())
    assert expected
    for transform in (FORWARD | REVERSE).values():
        run(transform(f))(2.0, mg.batch(GRAPHS))
        assert sorted(capsys.readouterr().out.splitlines()) == expected
    for g in (mg.microbatch(mean, 1), mg.grad(mg.microbatch(mean, 2))):
        run(g)(2.0, mg.batch(GRAPHS))
        assert sorted(capsys.readouterr().out.splitlines()) == expected


def unread(w, g):
    mg.scan(lambda c, x: (shown(x[0]), (None, None))[1], None, g.x)
    mg.cond(g.x.shape[0] > 2, lambda: shown(g.target), lambda: None)
    return w * np.sum(g.x)


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
def test_ragged_functions_without_results_run_for_their_effects(run, capsys):
    run(mg.vmap(lambda g: shown(g.target)))(mg.batch(GRAPHS))
    assert capsys.readouterr().out.splitlines() == ["x []", "x [1]", "x [2 1 0]", "x []"]
    for f in (FORWARD | REVERSE).values():
        run(f(unread))(2.0, mg.batch(GRAPHS))
        assert capsys.readouterr().out.splitlines() == ["x 0.0", "x 0.0", "x 2.0", "x 2.0", "x 4.0", "x [2 1 0]"]


@mg.example
class Tree:
    parent: mg.index(node, null=-1)[node]
    x: mg.f64[node]


TREES = [Tree([], []), Tree([-1, 0, 0], [0.0, 1.0, 2.0]), Tree([1, -1], [3.0, 4.0]), Tree([], [])]
IN_PASSES = {"microbatch": lambda f: mg.microbatch(FORWARD["value"](f), 2),
             "gradient of microbatch": lambda f: mg.grad(mg.microbatch(FORWARD["value"](f), 2)),
             "microbatch of gradient": lambda f: mg.microbatch(mg.grad(FORWARD["value"](f)), 2, (None, 0)),
             "jvp of microbatch": lambda f: lambda w, b: mg.jvp(
                 lambda w: mg.microbatch(FORWARD["value"](f), 2)(w, b), (w,), (1.0,))}


def summed(w, t):
    def cell(x, children):
        mg.print("{:.0f}", x)
        return x * w + np.sum(children)  # its derivatives read no state

    return np.sum(mg.tree_scan(cell, t.parent, t.x, mg.f64[()]))


def squashed(w, t):
    def cell(x, children):
        mg.print("{:.0f}", x)
        return np.tanh(x * w + np.sum(children))

    return np.sum(mg.tree_scan(cell, t.parent, t.x, mg.f64[()]))


def unused_trees(w, t):
    squashed(w, t)
    return w * np.sum(t.x)


def trees_of_steps(w, t):
    return mg.scan(lambda c, _: (np.sin(c + summed(w, t)), None), 0.0, np.zeros(1))[0]


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("f", [summed, squashed, unused_trees, trees_of_steps], ids=lambda f: f.__name__)
def test_trees_print_each_node_once(f, run, capsys):
    passes = {} if f is trees_of_steps else IN_PASSES  # trees in a scan are not cut into passes
    for name, transform in (FORWARD | REVERSE | passes).items():
        run(transform(f))(2.0, mg.batch(TREES))
        lines = "1 2 0 3 4" if name in IN_PASSES else "1 2 3 0 4"  # the leaves first, in each pass
        assert capsys.readouterr().out.split() == lines.split(), name


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f)], ids=["eager", "compiled"])
def test_forward_mode_prints_each_step_of_a_loop_once(run, capsys):
    def trees(w, g):
        def cell(x, children):
            mg.print("{:.0f}", x)
            return np.tanh(x * w + np.sum(children))

        return mg.tree_scan(cell, np.array([-1, 0, 0]), np.arange(3.0), mg.f64[()])[0]

    for f, lines in ((lambda w, _: sums(w, X), STEPS), (lambda w, _: counted(w, X), CASES["while"][1]),
                     (trees, ["1", "2", "0"])):
        run(lambda w, f=f: mg.jvp(lambda w: f(w, None), (w,), (1.0,)))(2.0)
        assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(("text", "values", "named", "words"), [
    ("t", [1.0], {}, "the format has no place for value 0. Write {}"),
    ("{1} {x}", [1.0, 2.0], {"x": 3, "y": 4}, "the format has no place for value 0, y. Write {}"),
    ("{} {}", [1.0], {}, "the format has a place {1}, which has no value"),
    ("{x}", [1.0], {"y": 1.0}, "the format has a place {x}, which has no value"),
    ("{:{width}}", [1.0], {}, "the format has a place {width}, which has no value"),
    ("{.shape} {[0]} {!r}", [1.0, 2.0], {}, "the format has a place {2}, which has no value"),
    ("{} {0}", [1.0], {}, "the format numbers some places, and leaves the number of others out"),
    ("{", [1.0], {}, "Single '{' encountered in format string")])
def test_formats_that_do_not_fit_the_values_are_refused_at_the_line(text, values, named, words):
    message = rf"test_printing.py:\d+: print\({re.escape(repr(text))}\): {re.escape(words)}"
    with pytest.raises(mg.TraceError, match=message):
        mg.trace(lambda: mg.print(text, *values, **named))()


def test_formats_have_attributes_elements_widths_and_braces(capsys):
    mg.print("{{}} {0.shape} {0[1]:.{width}f} {w:>3}", np.arange(3.0), width=2, w=1)
    assert capsys.readouterr().out == "{} (3,) 1.00   1\n"
    mg.print("{.shape} {[1]:{}.1f} {!r}", np.arange(3.0), np.arange(3.0), 5, "x")
    assert capsys.readouterr().out == "(3,)   1.0 'x'\n"
