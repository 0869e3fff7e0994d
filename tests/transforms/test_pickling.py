"""Functions that transforms make, copied and pickled: they compute what they did, in other processes too."""

import copy
import functools
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.transforms import lazy_pickle

ROOT = Path(__file__).resolve().parents[2]
W, X, Y = np.array([0.5, -1.0, 2.0]), np.arange(12.0).reshape(4, 3) / 10, np.arange(4.0)
node, edge = mg.axis("node"), mg.axis("edge")


def loss(w, x, y):
    return (np.tanh(x @ w) - y) ** 2


def total(w):
    return np.sum(np.sin(w) * w)


@mg.custom_vjp(lambda g, out, x: (g * 3.0,))
def tripled(x):
    return x * 1.0


halved = mg.primitive("test_picklable_half", lambda xp, x: x / 2, vjp=lambda g, out, x: (g / 2,))


@mg.grad
def slope(w):
    return np.sum(w**3)


@mg.compile
def step(w):
    return w * 2 + 1


@mg.example
class Molecule:
    x: mg.f64[node, 2]
    src: mg.index(node)[edge]
    n_edges: mg.count(edge)
    y: mg.f64[()] = None


@mg.register_dataclass
@dataclass
class Params:
    w: np.ndarray


def molecules():
    return [Molecule(np.full((n, 2), float(n)), np.arange(n - 1), n - 1) for n in (2, 4, 1)]


def energy(w, m):
    return np.sum(np.tanh(m.x[m.src] @ w)) + m.x.shape[0]


AXES = (None, 0, 0)
TRANSFORMED = {
    "grad": (mg.grad(total), W), "value_and_grad": (mg.value_and_grad(loss, argnums=(0, 1)), W, X[0], Y[0]),
    "jacobian": (mg.jacobian(np.sin), W), "hessian": (mg.hessian(total), W), "vmap": (mg.vmap(loss, AXES), W, X, Y),
    "nested": (mg.grad(mg.mean_loss(loss, AXES)), W, X, Y),
    "per_example_grad": (mg.per_example_grad(loss, 0, AXES), W, X, Y),
    "unroll": (mg.unroll(loss, 4, AXES), W, X, Y), "microbatch": (mg.microbatch(mg.mean_loss(loss, AXES), 3), W, X, Y),
    "checkpoint": (mg.grad(mg.checkpoint(total)), W), "trace": (mg.trace(total), W),
    "custom_vjp": (mg.jacobian(tripled), W), "primitive": (halved, W), "decorated": (slope, W),
    "partial": (mg.grad(functools.partial(loss, x=X[0], y=0.5)), W),
    "norms": (mg.per_example.norms(loss, 0, AXES), W, X, Y),
    "clipped_mean": (mg.per_example.clipped_mean(loss, 1.0, 0, AXES), W, X, Y),
    "gram": (mg.per_example.gram(loss, 0, AXES), W, X, Y),
    "noise_scale": (mg.per_example.noise_scale(loss, 0, AXES), W, X, Y),
    "ragged": (mg.grad(mg.mean_loss(energy, (None, 0))), W[:2], mg.batch(molecules())),
    "compiled": (mg.compile(mg.grad(total), backend="numpy"), W), "compiled by decoration": (step, W),
    "init": (mg.optim.adam(0.1).init, W), "update": (mg.optim.momentum(0.1, beta=0.5).update, W, W, W),
    "pull": (mg.vjp(lambda w, p: {"y": np.sin(w) * p["x"]}, W, {"x": X[0]})[1], {"y": W}),
    "unravel": (mg.optim.ravel({"a": W, "b": X})[1], np.arange(15.0)),
}


def same(a, b):
    assert optree.tree_structure(a) == optree.tree_structure(b)
    for x, y in zip(optree.tree_leaves(a), optree.tree_leaves(b), strict=True):
        if isinstance(x, mg.Graph):
            assert str(x) == str(y)
        else:
            np.testing.assert_array_equal(x, y, strict=True)


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy, lambda f: pickled(pickled(f))],
                         ids=["pickle", "copy", "deepcopy", "twice"])
def test_copies_of_transformed_functions(name, again):
    f, *args = TRANSFORMED[name]
    other = again(f)
    same(other(*args), f(*args))
    assert getattr(other, "__name__", None) == getattr(f, "__name__", None)


def test_transformed_functions_in_another_process(tmp_path):
    (tmp_path / "in").write_bytes(pickle.dumps(list(TRANSFORMED.values())))
    code = """
import pickle, pathlib, tests.transforms.test_pickling
some = pickle.loads(pathlib.Path('in').read_bytes())
pathlib.Path('out').write_bytes(pickle.dumps([f(*args) for f, *args in some]))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                   check=True)  # with the variables that choose the kernels of BLAS
    for found, (f, *args) in zip(pickle.loads((tmp_path / "out").read_bytes()), TRANSFORMED.values(), strict=True):
        same(found, f(*args))


@pytest.mark.parametrize("optimizer", [mg.optim.sgd(0.1), mg.optim.momentum(0.1), mg.optim.adam()])
@pytest.mark.parametrize("again", [pickled, copy.copy, copy.deepcopy])
def test_copies_of_optimizers(optimizer, again):
    other, state = again(optimizer), optimizer.init(W)
    assert type(other) is type(optimizer)
    same(other.init(W), state)
    same(other.update(W, again(state), W), optimizer.update(W, state, W))


def test_made_functions_look_like_the_function_they_are_made_of():
    f = mg.grad(loss)
    assert (f.__name__, f.__module__, f.__wrapped__) == ("loss", __name__, loss)
    assert "minigrad.grad(<function loss" in repr(f)
    assert mg.vmap(loss, AXES).in_axes == AXES


def test_made_functions_are_methods():
    class Model:
        def __init__(self, w):
            self.w = w

        @mg.grad
        def slope(self, x):
            return np.sum(self * x)  # the instance is the first argument, as of any method

    same(Model.__dict__["slope"].__get__(W)(X[0]), X[0])
    assert Model.slope(W, X[0]).shape == (3,)


def test_a_function_that_has_no_pickle_is_named():
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(mg.grad(lambda w: np.sum(w)))


# -- compiled functions --------------------------------------------------------------------------------------

ELSEWHERE = """
import pickle, pathlib, sys
f, calls = pickle.loads(pathlib.Path("in").read_bytes())
assert not any(m.startswith("tests") for m in sys.modules)
pathlib.Path("out").write_bytes(pickle.dumps([f(*args) for args in calls]))
"""


def elsewhere(folder, f, *calls):
    """Call a function in a process that has minigrad, and none of this file."""
    (folder / "in").write_bytes(pickle.dumps((f, calls)))
    subprocess.run([sys.executable, "-P", "-c", ELSEWHERE], cwd=folder, check=True,
                   env=os.environ | {"PYTHONPATH": str(folder / "package")})
    return pickle.loads((folder / "out").read_bytes())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "minigrad").symlink_to(ROOT / "minigrad")
    return tmp_path


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_a_compiled_function_needs_no_source_elsewhere(folder, backend):
    f = mg.compile(mg.value_and_grad(mg.mean_loss(lambda p, x, y: (np.tanh(x @ p["w"]) - y) ** 2 + p["b"][0], AXES)),
                   backend=backend)
    p = {"w": W, "b": [0.5, None]}
    want = f(p, X, Y), f(p, X[:3], Y[:3]), f({"w": W.astype("f4"), "b": [0.5, None]}, X[:2], Y[:2])
    have = elsewhere(folder, f, (p, X, Y), (p, X[:3], Y[:3]), ({"w": W.astype("f4"), "b": [0.5, None]}, X[:2], Y[:2]))
    for a, b in zip(have, want, strict=True):
        same(a, b)
    assert type(have[0][0]) is type(want[0][0])


def test_a_compiled_function_of_a_ragged_batch_needs_no_source_elsewhere(folder):
    word = mg.axis("word")
    f = mg.compile(mg.vmap(lambda w, x: np.sum(np.sort(x) * w) + x.shape[0], (None, 0)))
    batches = [mg.batch([np.arange(float(n)) for n in sizes], mg.f64[word]) for sizes in ((3, 1), (2, 2, 5))]
    want = [f(2.0, b) for b in batches]
    for a, b in zip(elsewhere(folder, f, *((2.0, b) for b in batches)), want, strict=True):
        same(a, b)


def test_a_compiled_function_is_traced_anew_where_its_function_is_found():
    f = mg.compile(mg.grad(total), backend="numpy")
    f(W)
    again = pickled(f)
    assert (len(again.entries), again.graph.name, again.source) == (1, f.graph.name, f.source)
    same(again(X), f(X))
    assert len(again.entries) == 2
    same(mg.vmap(again)(X), mg.vmap(f)(X))
    assert "total" in repr(again)


def test_a_compiled_function_without_its_function(monkeypatch):
    monkeypatch.setattr(lazy_pickle, "_dumps", lambda: pickle.dumps)  # not what joblib brings with it
    f = mg.compile(lambda w: w * 2)
    with pytest.raises(mg.MinigradError, match=r"has no program yet, and its function cannot be pickled"):
        pickle.dumps(f)
    f(W)
    again = pickled(pickled(f))
    same(again(W + 1), 2 * (W + 1))
    for call in (lambda: again(X), lambda: mg.grad(lambda w: np.sum(again(w)))(W)):
        with pytest.raises(mg.MinigradError, match=r"test_pickling.py:.*comes from a pickle"):
            call()


def test_decorated_compiled_functions_find_their_function():
    assert step(W).tolist() == (W * 2 + 1).tolist()
    again = pickled(step)
    same(again(X.astype("f4")), step(X.astype("f4")))
    assert again._f._function is step.__wrapped__


def test_compiled_methods_pickle():
    f = mg.compile(mg.mean_loss(loss, AXES))
    f(W, X, Y)
    assert pickled(f.workspace_bytes)(W, X, Y) == f.workspace_bytes(W, X, Y)


def test_graphs_of_callbacks_and_of_peoples_own_pytrees_pickle():
    def f(p, m):
        return Params(mg.callback(np.sort, mg.f64[3], p.w) + np.sum(m.x))

    graph = mg.trace(f)(Params(W), molecules()[0])
    again = pickled(graph)
    assert (again.in_tree, again.out_tree) == (graph.in_tree, graph.out_tree)
    compiled = mg.compile(f)
    same(pickled(compiled)(Params(W), molecules()[0]) if compiled(Params(W), molecules()[0]) else 0,
         compiled(Params(W), molecules()[0]))
    with pytest.raises(mg.GraphError, match="no JSON form"):
        graph.to_json()


# -- traced values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_parameters_may_be_copied_in_a_loss(copied):
    def f(params, m, A, key):
        params, m, A, key = copied((params, m, A, key)) if copied is copy.deepcopy else map(copied, (params, m, A, key))
        return np.sum(params["w"] ** 2) * m.x.shape[0] + np.sum(A @ params["w"]) + copied(m.x.shape)[0]

    A = mg.Sparse(np.array([2.0, 3.0]), np.array([0, 2]), np.array([1, 1]), (3, 3))
    args = {"w": W}, molecules()[1], A, mg.random.key(0)
    want = 2 * W * 4 + np.array([0, 5.0, 0])
    np.testing.assert_allclose(mg.grad(f)(*args)["w"], want)
    np.testing.assert_allclose(mg.compile(mg.grad(f))(*args)["w"], want)

    def over(params, batch):
        return mg.vmap(lambda m: np.sum(m.x) * np.sum(params["w"]) + copied(m.n_edges))(copied(batch))

    have = mg.compile(over)({"w": W}, mg.batch(molecules()))
    np.testing.assert_allclose(have, [8 * 1.5 + 1, 32 * 1.5 + 3, 2 * 1.5 + 0])


def test_traced_values_have_no_pickle():
    def f(w):
        with pytest.raises(mg.TraceError, match=r"test_pickling.py:.*pickle of a traced value"):
            pickle.dumps(w)
        with pytest.raises(mg.GraphError, match="part of a program"):
            pickle.dumps(w._node)
        return np.sum(w)

    mg.grad(f)(W)


def test_a_pullback_within_a_trace_is_copied():
    def f(w):
        value, pull = mg.vjp(np.sin, w)
        return np.sum(value * copy.deepcopy(pull)(w)[0])

    want = np.cos(2 * W) * W + np.sin(2 * W) / 2  # of sin w cos w w
    np.testing.assert_allclose(mg.compile(mg.grad(f))(W), want)


def test_errors_with_a_node_pickle():
    error = mg.CheckError("the third row is wrong", mg.trace(np.sin)(W).outputs[0])
    assert str(pickled(error)) == str(error)
    assert type(pickled(error)) is mg.CheckError


def test_sizes_that_are_copied_are_the_same():
    B = mg.dim("B")
    assert copy.deepcopy(B) is copy.copy(B) is B
    shape = (B, B * 2 + 1, B * mg.dim("C"))
    graph = mg.trace(lambda x: x * 2)(mg.f64[shape])
    other, again, twice = pickled((shape, shape, mg.f64[shape]))
    assert other == again == twice.shape
    assert list(map(str, other)) == list(map(str, shape))
    assert other != shape  # sizes of another process are others
    assert pickled(graph).check()


# -- workers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_workers_of_joblib(backend):
    joblib = pytest.importorskip("joblib")
    compiled = mg.compile(mg.grad(mg.mean_loss(loss, AXES)))
    want = [compiled(W * k, X, Y) for k in range(4)]
    some = joblib.Parallel(2, backend=backend)(joblib.delayed(compiled)(W * k, X, Y) for k in range(4))
    same(some, want)
    parts = joblib.Parallel(2, backend=backend)(joblib.delayed(mg.batch)(molecules()[k:]) for k in range(3))
    for k, part in enumerate(parts):
        want = mg.batch(molecules()[k:])
        assert part.schema == want.schema
        same(part, want)
        same(mg.vmap(energy, (None, 0))(W[:2], part), mg.vmap(energy, (None, 0))(W[:2], want))


SCRIPT = """
import joblib, numpy as np, minigrad as mg
from dataclasses import dataclass
node = mg.axis("node")

@mg.example
class Sentence:
    x: mg.f64[node]

@mg.register_dataclass
@dataclass
class Params:
    w: np.ndarray

def loss(p, s):
    return np.sum(p.w * s.x)

step = mg.compile(mg.grad(mg.mean_loss(loss, (None, 0))))

def work(n):
    batch = mg.batch([Sentence(np.full(k + 1, float(n))) for k in range(n)])
    return step(Params(np.array(2.0)), batch), batch

if __name__ == "__main__":
    for backend in ("loky", "multiprocessing"):
        for n, (g, batch) in enumerate(joblib.Parallel(2, backend=backend)(map(joblib.delayed(work), (1, 2, 3, 4))), 1):
            assert isinstance(g, Params) and g.w == n * (n + 1) / 2, (g, n)
            assert isinstance(batch[0], Sentence) and step(Params(np.array(1.0)), batch).w == g.w
    print("done")
"""


def test_classes_of_a_script_in_workers(tmp_path):
    """Loky sends functions and classes of a script by their code: they become schemas and pytrees there again."""
    pytest.importorskip("joblib")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.stdout == "done\n", done.stderr[-3000:]


# -- decorators with options, methods, partials ---------------------------------------------------------------


@mg.grad(argnums=1)
def decorated(x, w):
    return np.sum(x * w**2)


class Model:
    """Methods of an object that is no pytree: it is static."""

    def __init__(self, scale):
        self.scale = scale

    @mg.compile(backend="numpy", static_argnums="n")
    def power(self, x, n):
        assert isinstance(n, int)
        return self.scale * x**n

    @mg.grad(argnums=1)
    def slope(self, x):
        return self.scale * np.sum(x**2)

    @mg.vmap(in_axes=(None, 0))
    def each(self, x):
        return self.scale * np.sum(x)

    @mg.compile
    @mg.value_and_grad(argnums="x")
    def both(self, x, mode="sum"):
        return self.scale * getattr(np, mode)(x)

    @staticmethod
    @mg.compile
    def double(x):
        return 2 * x


def test_options_alone_make_a_decorator():
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(decorated(x, x), 2 * x**2)
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    mean = mg.mean_loss(in_axes=(None, 0), has_aux=True)(lambda w, x: (w * x, x))
    assert mean(2.0, x)[0] == 3.0
    assert mg.unroll(n=2)(lambda x: x)(x) == 1.5
    np.testing.assert_array_equal(mg.microbatch(size=1)(mg.vmap(lambda x: 2 * x))(x), 2 * x)
    np.testing.assert_array_equal(mg.per_example_grad(argnums=1, in_axes=0)(lambda a, b: a * b)(x, x), x)
    np.testing.assert_array_equal(mg.hessian(argnums=0)(lambda x: np.sum(x**3))(x), np.diag(6 * x))
    assert pickle.loads(pickle.dumps(mg.grad(argnums=0)))(np.sum)(x).tolist() == [1, 1]


def test_methods():
    x = np.array([1.0, 2.0])
    models = [Model(3.0), Model(5.0)]
    for m in models:
        np.testing.assert_array_equal(m.power(x, 2), m.scale * x**2)
        np.testing.assert_array_equal(m.power(x, n=3), m.scale * x**3)
        np.testing.assert_array_equal(m.slope(x), 2 * m.scale * x)
        np.testing.assert_array_equal(m.each(np.stack([x, 2 * x])), m.scale * np.array([3.0, 6.0]))
        assert m.both(x) == (m.scale * 3.0, pytest.approx([m.scale] * 2))
        assert m.both(x, "prod")[0] == m.scale * 2.0
        np.testing.assert_array_equal(m.double(x), 2 * x)
        np.testing.assert_array_equal(mg.compile(m.slope)(x), 2 * m.scale * x)
    assert len(Model.power.entries) == 4, "one for each object and form of the call"
    assert models[0].power.graph.name == "power"


def test_partials_of_functions():
    x = np.array([1.0, 2.0])
    f = functools.partial(lambda x, mode, k=1: getattr(np, mode)(x) * k, mode="sum")
    np.testing.assert_array_equal(mg.grad(f)(x, k=3.0), [3.0, 3.0])
    compiled = mg.compile(functools.partial(f, k=2.0))
    assert compiled(x) == 6.0


@pytest.mark.parametrize("transform", [mg.grad, mg.vmap, mg.mean_loss, mg.hessian, mg.trace, mg.checkpoint])
def test_the_first_argument_is_a_function(transform):
    with pytest.raises(mg.MinigradError, match=f"{transform.__name__}: the first argument must be a function, got 1"):
        transform(1)
