"""Graphs as JSON and pickles: everything that a node may hold, hostile texts and damaged ones."""

import builtins
import contextlib
import copy
import enum
import functools
import json
import pickle
import random

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, interpreters, passes
from minigrad.argument_sizes import argument_sizes
from minigrad.backends.native.runtime import jit

BACKENDS = ("numpy", "native") if jit.available() is None else ("numpy",)
W = np.array([1.0, 2.0, 0.5])
X = np.arange(15.0).reshape(5, 3)

GRAPHS = {
    "plain": mg.trace(lambda w: np.sum(np.tanh(w) * 2))(W),
    "two symbols": mg.trace(lambda X, Y: (mg.vmap(np.sum)(X), mg.vmap(np.sum)(Y), X.shape[0] * 2 + 1))(X, X),
    "chunks of checkpoints": mg.trace(mg.grad(mg.microbatch(mg.mean_loss(
        mg.checkpoint(lambda w, x: np.sum(np.tanh(w * x))), (None, 0)), 2)))(W, X),
    "special numbers": mg.trace(lambda x: (x * np.inf + np.nan, x * -np.inf, x - -0.0, x + 1e-320, x + 0.1))(W),
    "constants": mg.trace(lambda x: (x + np.array([1, 2, 3], "u1"), x * np.array([0.1, np.nan, np.inf], "f4")[::-1],
                                     np.where(np.array([True, False, True]), x, 0)))(W),
    "pytrees": mg.trace(lambda p: {1: p[2], (3, "a"): [p["n"], None, ()], False: {}})({2: W, "n": W}),
    "static values": mg.trace(lambda p, mode, *, rate: p["w"] * (2 if mode[0] == "a" else 3))(
        {"w": W, "flag": True, "text": "é"}, ("a", None, b"\xff", np.dtype("f4")), rate=[False, "x"]),
    "linear algebra": mg.trace(lambda A: (np.linalg.inv(A), *np.linalg.slogdet(A)))(np.eye(3)),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("again", [
    lambda g: mg.Graph.from_json(g.to_json()), lambda g: pickle.loads(pickle.dumps(g)), copy.deepcopy, copy.copy],
    ids=["json", "pickle", "deepcopy", "copy"])
def test_round_trip(name, again):
    graph = GRAPHS[name]
    other = again(graph).check()
    assert str(other) == str(graph)
    assert other.to_json() == graph.to_json()
    assert (other.in_tree, other.out_tree, other.names) == (graph.in_tree, graph.out_tree, graph.names)
    sizes = dict.fromkeys(graph.symbols, 5)
    arrays = [np.eye(3) if name == "linear algebra" else X if n.ndim == 2 else W for n in graph.inputs]
    want = interpreters.evaluate(graph, arrays, sizes)
    have = interpreters.evaluate(other, arrays, dict.fromkeys(other.symbols, 5))
    for h, w in zip(have, want, strict=True):
        assert np.asarray(h).dtype == np.asarray(w).dtype
        np.testing.assert_array_equal(h, w)


class Mode(enum.Enum):
    SUM = 1


class Level(enum.IntEnum):
    HIGH = 2


def test_static_values_of_json_are_the_same_values():
    graph = GRAPHS["static values"]
    again = mg.Graph.from_json(graph.to_json())
    args = {"w": W, "flag": True, "text": "é"}, ("a", None, b"\xff", np.dtype("f4"))
    np.testing.assert_array_equal(again(*args, rate=[False, "x"]), 2 * W)
    with pytest.raises(mg.TraceError, match="expected arguments of structure"):
        again(*args, rate=[0, "x"])
    f = mg.compile(lambda x, n, rate: x[:n] * rate, static_argnums=("n", "rate"))
    f(W, 2, -0.0)
    assert mg.Graph.from_json(f.graph.to_json()).in_tree == f.graph.in_tree


@pytest.mark.parametrize(("value", "said"), [
    (Mode.SUM, r"argument 1 is <Mode\.SUM: 1>: a static value of type Mode has no JSON form"),
    (Level.HIGH, "of type Level has"), (np.tanh, "of type ufunc"),
    ({"a": (1.0, np.float32)}, r"argument 1\['a'\]\[1\] is"),
    ((np.dtype(">f4"),), "dtype")])
def test_static_values_without_a_json_form_are_named(value, said):
    graph = mg.trace(lambda x, option: x)(W, value)
    with pytest.raises(mg.GraphError, match=said + ".*functools.partial"):
        graph.to_json()
    with pytest.raises(mg.GraphError, match="argument 'option'"):
        mg.trace(lambda x, option: x)(W, option=value).to_json()
    bound = functools.partial(lambda x, option: x, option=value)
    assert mg.Graph.from_json(mg.trace(bound)(W).to_json())(W) is not None


@pytest.mark.parametrize("value", [
    '[1]', '{"array":"AAAA","dtype":"int8","shape":[3]}', '{"bytes":"*"}', '{"other":0}'])
def test_json_of_other_static_values_is_refused(value):
    text = GRAPHS["static values"].to_json()
    assert text.count('{"static":true}') == 1
    with pytest.raises(mg.GraphError):
        mg.Graph.from_json(text.replace('{"static":true}', '{"static":' + value + "}"))


# -- JSON that is made to do harm ----------------------------------------------------------------------------

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Molecule:
    x: mg.f64[node, 2]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]


def messages(w, m):
    summed = mg.segment_sum(m.x[m.src], m.dst, m.x.shape[0])
    return np.sum(np.tanh(summed @ w)) + np.sum(np.cumsum(m.x, axis=0)[::-1, :1])


def recurrent(w, x):
    h, ys = mg.scan(lambda h, v: (np.tanh(h * w[0] + v), h), np.sum(w), x)
    return mg.cond(h > 0, lambda v: v[::-1] * 2, lambda v: v.reshape(3, 1).T[0], ys[:3])


def rows(w, x):
    return np.stack([np.sort(w), np.pad(x[:2], (0, 1))]) @ np.linalg.inv(np.outer(w, w) + np.eye(3))


MOLECULES = mg.batch([Molecule(np.ones((n, 2)), np.zeros(2, int), np.ones(2, int)) for n in (3, 2)])
VICTIMS = {
    "messages": (mg.trace(mg.grad(mg.mean_loss(messages, (None, 0))))(np.ones((2, 2)), MOLECULES).replace(
        in_tree=None, out_tree=None), [np.ones((2, 2)), *mg.optim.optree.tree_leaves(MOLECULES)]),
    "recurrent": (mg.trace(mg.vmap(recurrent, (None, 0)))(W, X), [W, X]),
    "rows": (mg.trace(mg.vmap(rows, (None, 0)))(W, X), [W, X]),
}
PAYLOADS = [
    "x.py\nimport builtins; builtins.intruder = 1\n#", "__import__('builtins').__dict__.update(intruder=1)",
    "x\r__import__('builtins').__dict__.update(intruder=1)", "\0", "\ud800", "²", "ﬁ", "None", "", -1, 2**63, 10**30,
    3, 0.5, True, None, [], {}, [1], {"tuple": [-1]}, {"tuple": ["f(0)"]}, {"tuple": [0, 0]}, {"float": "nan"},
    {"dim": [[[[0, "f()\nintruder"]], 1]]}, {"dim": [[[], 3]]}, {"dim": []}, {"dtype": "float128"},
    {"dtype": "i8,i8"}, {"array": "BwcHBwcHBwc=", "dtype": "bool", "shape": [8]},
    {"array": "", "dtype": "int64", "shape": [-1]}]


def places(data, path=()):
    """Yield the path to every value of JSON data."""
    yield path
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield from places(data[key], (*path, key))


def with_value(data, path, value):
    if not path:
        return value
    copied = copy.copy(data)
    copied[path[0]] = with_value(data[path[0]], path[1:], value)
    return copied


def use(graph, arrays):
    """Print and run the graph on every backend."""
    str(graph), graph.to_svg(), graph.to_json()
    sizes = argument_sizes(graph, [a.shape for a in arrays])
    for backend in BACKENDS:
        program = backends.build(passes.run(graph)[0], backend)
        compile(program.source, "source", "exec")
        program(arrays, sizes)


@pytest.mark.parametrize("name", VICTIMS)
def test_no_text_of_a_graph_is_executed(name):
    graph, arrays = VICTIMS[name]
    use(graph, arrays)
    data = json.loads(graph.to_json())
    rng = np.random.default_rng(0)
    every = list(places(data))
    taken = 0
    for path in [every[i] for i in rng.permutation(len(every))[:400]]:
        for value in rng.permutation(np.array(PAYLOADS, dtype=object))[:4]:
            text = json.dumps(with_value(data, path, value))
            try:
                damaged = mg.Graph.from_json(text)
            except mg.GraphError:
                continue
            taken += 1
            with contextlib.suppress(mg.MinigradError, ValueError, KeyError, IndexError, TypeError, AttributeError,
                                     MemoryError, OverflowError, ZeroDivisionError):
                use(damaged, arrays)
            assert not hasattr(builtins, "intruder"), (path, value)
    assert taken


def test_line_breaks_in_names_stay_in_their_comments():
    f = eval(compile("lambda w: (w * 2 + 1) @ w", "a\nimport builtins; builtins.intruder = 1\r#.py", "eval"))
    graph = mg.trace(f)(W).replace(name="f\nimport builtins; builtins.intruder = 1\n#")
    for again in (graph, mg.Graph.from_json(graph.to_json())):
        use(again, [W])
        assert "\n#" not in str(again)
    B = mg.dim("B\nbuiltins.intruder = 1")
    use(mg.trace(lambda x: np.exp(x - x.max(axis=0)).sum())(mg.f64[B, 3]), [X])
    assert not hasattr(builtins, "intruder")


@pytest.mark.parametrize("names", [("a²", "²", "①x"), ("ﬁ", "fi", "𝐟𝐢"), ("ｎｐ", "len", "part_1"),
                                   ("__debug__", "lambda", "")])
def test_arguments_of_any_name_are_told_apart(names):
    """Python reads an identifier in its normal form (PEP 3131): names that differ in their letters may meet there."""
    graph = mg.trace(lambda a, b, c: np.exp(a - b) * c)(W, W, W).replace(names=names)
    for backend in BACKENDS:
        program = backends.build(passes.run(graph)[0], backend)
        compile(program.source, "source", "exec")
        np.testing.assert_allclose(program([W, 2 * W, 3 * W], {})[0], np.exp(-W) * 3 * W)


def test_sizes_may_have_names_of_any_alphabet():
    B = mg.dim("β")
    graph = mg.trace(lambda x: np.tanh(np.exp(x) * 2).reshape(x.shape[0], 1, 3) + 1)(mg.f64[B, 3])
    use(graph, [X])


@pytest.mark.parametrize(("old", "new", "words"), [
    ('"value":2.0', '"value":"f()"', "'f\\(\\)' is not a number of dtype float64|full: value='f"),
    ('"value":2.0', '"value":2', "'2' is not a number of dtype float64"),
    ('"shape":{"tuple":[3]}', '"shape":{"tuple":["3"]}', "input: shape=.* is not a value of type"),
    ('"shape":{"tuple":[3]}', '"shape":{"tuple":[-3]}', "input: shape=.* is not a value of type"),
    ('"shape":{"tuple":[3]}', '"shape":{"tuple":[4611686018427387904, 4]}', "does not fit into any memory"),
    ('"dtype":"float64"', '"dtype":"float80"', "data type 'float80' not understood"),
    ('"dtype":"float64"', '"dtype":"f8"', "dtype 'f8' is not one of minigrad's"),
    ('"axes":{"tuple":[0]}', '"axes":{"tuple":[true]}', "axes='\\(True,\\)' is not a value of type"),
    ('"axes":{"tuple":[0]}', '"axes":{"tuple":[0]},"out":1', "sum has no parameter 'out'"),
    ('"names":["w"]', '"names":[1]', "expected a string, got '1'"),
    ('"names":["w"]', '"names":["w","v"]', "1 inputs, 2 names"),
    ('"in_tree":', '"in_tree":{"tuple":[]},"old":', "a pytree of 0 leaves for 1 values"),
    ('"notes":[]', '"notes":[[]]', "expected a string"),
    ('"rules":[]', '"rules":[0]', "expected a string"),
    ('"loc":["', '"loc":[3,"', "expected a string|positional arguments")])
def test_json_of_wrong_types_is_refused(old, new, words):
    text = GRAPHS["plain"].to_json()
    assert old in text
    with pytest.raises(mg.GraphError, match=words):
        mg.Graph.from_json(text.replace(old, new))


def test_json_round_trip_keeps_rows_flag_of_sizes():
    graph = VICTIMS["messages"][0]
    again = mg.Graph.from_json(graph.to_json())
    assert [(s.name, s.rows) for s in again.symbols] == [(s.name, s.rows) for s in graph.symbols]
    assert any(s.rows for s in again.symbols)


# -- damaged text -------------------------------------------------------------------------------------------

LOSS = mg.trace(mg.value_and_grad(mg.mean_loss(lambda p, x: np.tanh(x @ p["w"]) ** 2, (None, 0))))({"w": W}, X)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "3", '"graph"', "{}", '{"format": "minigrad-graph-2"}', None, b"\xff\xfe", "[" * 100_000,
    LOSS.to_json()[:-10], LOSS.to_json()[10:], LOSS.to_json().replace('"mul"', '"os.system"'),
    LOSS.to_json().replace('"tanh"', '"__import__"'), LOSS.to_json().replace('"axes"', '"foo"'),
    LOSS.to_json().replace('{"tuple":[0]}', '{"tuple":[7]}'), LOSS.to_json().replace('"in":[', '"in":[99,'),
    LOSS.to_json().replace('"float64"', '"object"'), LOSS.to_json().replace('"float64"', '"O8"'),
    LOSS.to_json().replace('"nodes"', '"edges"')], ids=range(21))
def test_corrupt_json(text):
    with pytest.raises(mg.GraphError):
        mg.Graph.from_json(text)
    assert str(mg.Graph.from_json(LOSS.to_json())) == str(LOSS)


def test_json_with_random_damage_is_refused_or_well_formed():
    """Nothing but a `GraphError` comes out of damaged text, whatever the damage."""
    draw, text = random.Random(0), LOSS.to_json()
    pieces = ['"', "{", "}", "[", "]", ",", ":", "0", "-1", "1e999", "NaN", "null", '"add"', '"tuple"', '{"graph":{}}',
              '{"array":"", "dtype":"O","shape":[1]}', "99999999999999999999", '{"tuple":[{"dim":[]}]}', "true"]
    for _ in range(400):
        at, length = draw.randrange(len(text)), draw.choice([0, 1, 1, 3, 20])
        damaged = text[:at] + draw.choice(pieces) + text[at + length:]
        with contextlib.suppress(mg.GraphError):
            mg.Graph.from_json(damaged).check()
