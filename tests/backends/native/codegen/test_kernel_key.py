"""A kernel is found by its group's signature: equal groups share one, and groups that differ in anything do not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import backends, interpreters, symbolic
from minigrad.backends.native.codegen import kernel, kernel_key
from minigrad.backends.native.runtime import cache
from minigrad.graph import PRIMITIVES, ArrayType, Graph, Node
from minigrad.passes import run
from minigrad.primitive import Primitive
from minigrad.symbolic import Dim
from tests.passes.programs import arrays_for, random_graph


def build(f, *args):
    return mg.compile(f, backend="native").build(*args).program


def groups(program):
    return [g for g in program._keys if g is not None]


def signatures(f, *args):
    return {g.signature for g in groups(build(f, *args))}


def test_equal_layers_share_a_kernel():
    def net(ws, x):
        for w in ws:
            x = np.tanh(x @ w)
        return np.sum(x)

    few, many = (build(mg.value_and_grad(net), [mg.f32[8, 8]] * n, mg.f32[30, 8]) for n in (3, 9))
    assert len(groups(many)) > len(groups(few))
    assert len({k.name for k in many.kernels if k}) == len({k.name for k in few.kernels if k}) == len(few.texts)
    ws, x = [np.full((8, 8), 0.01 * (k + 1), np.float32) for k in range(9)], np.ones((30, 8), np.float32)
    have = mg.compile(mg.grad(net), backend="native")(ws, x)
    for a, b in zip(have, mg.grad(net)(ws, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


x = mg.f32[30, 8]
DIFFERENT = {
    "statement": (lambda x: np.sin(x) * 2, lambda x: np.cos(x) * 2),
    "dtype": (lambda x: np.sin(x) * x, lambda x: np.sin(x.astype(np.float64)) * x),
    "constant": (lambda x: np.sin(x) * 2, lambda x: np.sin(x) * 3),
    "sign of zero": (lambda x: np.copysign(x, 0.0), lambda x: np.copysign(x, -0.0)),
    "order of operands": (lambda x: np.sin(x) - x, lambda x: x - np.sin(x)),
    "axis": (lambda x: np.sum(np.sin(x), axis=0), lambda x: np.sum(np.sin(x), axis=1)),
    "view": (lambda x: x + x[::-1], lambda x: x + x[:, ::-1]),
    "outputs": (lambda x: np.sin(x) + np.cos(x), lambda x: (np.sin(x), np.sin(x) + np.cos(x))),
    "shared operand": (lambda x: np.sin(x) + np.cos(x), lambda x: np.sin(x) + np.cos(x.T.T[::-1]))}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_groups_have_different_signatures(what):
    f, g = DIFFERENT[what]
    assert not signatures(f, x) & signatures(g, x)


def test_names_and_sizes_do_not_matter():
    def f(x):
        return np.sum(np.exp(x), axis=1)

    one = mg.compile(mg.vmap(f), backend="native")
    one(np.ones((5, 3, 4)))
    other = mg.compile(mg.vmap(lambda thing: f(thing)), backend="native")
    other(np.ones((7, 3, 4)))
    assert [k.name for k in one.entries[0].program.kernels] == [k.name for k in other.entries[0].program.kernels]
    other(np.ones((7, 3, 6)))  # an axis of fixed size is in the code
    assert [k.name for k in one.entries[0].program.kernels] != [k.name for k in other.entries[1].program.kernels]


@pytest.mark.parametrize("seed", range(12))
def test_code_depends_on_the_signature_alone(seed):
    """A group that was read from a signature has that signature, and the code and arguments of it."""
    graph, _ = random_graph(900 + seed, gradient=True)
    for key in groups(backends.build(run(graph.check())[0], "native")):
        plan, step, nodes, symbols = kernel_key.plan_of(key)
        again = kernel_key.kernel_key(plan, step)
        assert repr(again.signature) == repr(key.signature)
        assert again.nodes == tuple(nodes)
        assert again.symbols == tuple(symbols)
        text, note = kernel.written(key)
        alone = kernel_key.KernelKey(key.signature, again.nodes, ())
        assert (text, note) == kernel.written(again) == kernel.written(alone)
        on_disk = json.loads(json.dumps(note))
        assert vars(kernel.kernel(key, on_disk)) == vars(kernel.kernel(key, note)), "on disk it is JSON"


def test_arguments_of_cached_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    compiled = []
    real = cache.compile_all

    def compile_all(texts, target):
        new = list(texts)
        compiled.append(len(new))
        return real(new, target)

    monkeypatch.setattr(cache, "compile_all", compile_all)
    for seed in range(4):
        graph, size = random_graph(950 + seed, gradient=True)
        after, _ = run(graph.check())
        for b in (3, 40):
            sizes = {size.symbol: b}
            arrays = arrays_for(graph, sizes, seed)
            compiled.clear()
            first, second = backends.build(after, "native"), backends.build(after, "native")
            assert not compiled[-1], "the second finds all of the first's on disk"
            for have in (first, second):
                for a, c in zip(have(arrays, sizes), interpreters.evaluate(after, arrays, sizes), strict=True):
                    np.testing.assert_allclose(a, c, rtol=1e-9, atol=1e-9, equal_nan=True)
            assert first.texts == second.texts


def test_user_primitives_differ_by_kernel():
    """Two primitives of one name: what they do is part of the signature."""
    def program(text):
        prim = Primitive(**vars(PRIMITIVES["sin"]) | {"name": "mine", "kernel": text})
        PRIMITIVES.pop("mine")  # construction registered it; monkeypatch would restore it
        v = Node(PRIMITIVES["input"], (), {"shape": (4,), "dtype": np.dtype("f8")}, ArrayType((4,), np.dtype("f8")))
        return backends.build(Graph((v,), (Node(prim, (v,), {}, v.type),)), "native")

    v = np.array([0.5, 1, 2, 4])
    np.testing.assert_allclose(program("sin({0})")([v], {})[0], np.sin(v), rtol=1e-15)
    np.testing.assert_allclose(program("exp({0})")([v], {})[0], np.exp(v), rtol=1e-15)


def test_sizes_are_numbers_in_signatures():
    a, b = Dim.new("a"), Dim.new("b")
    numbers = {}
    code = kernel_key.coded(a * b * 2 + a - 3, numbers)
    assert kernel_key.decoded(code, (a.symbol, b.symbol)) == a * b * 2 + a - 3
    assert kernel_key.decoded(json.loads(json.dumps(code)), (b.symbol, a.symbol)) == a * b * 2 + b - 3
    assert kernel_key.coded(5, numbers) == kernel_key.decoded(5, ()) == 5
    assert symbolic.polynomial({(b.symbol, a.symbol): 1}) == a * b
