"""Names of NumPy in the user's code: the code that is reached, other threads, errors, and restored names."""

import builtins
import functools
import sys
import threading
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad.plain.stand_ins import StandIn
from minigrad.tracing import thread

X = np.array([0.5, 1.5])
TABLE = np.arange(6.0).reshape(3, 2)


def pair(a, b):
    return np.array([a, b])


def check(f, *args):
    """Check a function of NumPy code against NumPy itself, and that no name is left exchanged."""
    before = dict(globals()), builtins.__import__
    expected = f(*args)
    np.testing.assert_allclose(mg.compile(mg.numpy_code(f))(*args), expected)
    assert all(globals()[name] is value for name, value in before[0].items())
    assert globals().keys() == before[0].keys()
    assert builtins.__import__ is before[1]


class Model:
    scale = 2.0
    offsets = np.array([1.0, 2.0])

    def __init__(self, table=TABLE):
        self.table = table
        self.f = pair

    @property
    def matrix(self):
        return np.array([[self.scale, 0.0], [0.0, 1.0]])

    @classmethod
    def made(cls, x):
        return cls().matrix @ np.array([x[0], 1.0])

    @staticmethod
    def norm(x):
        return np.linalg.norm([x[0], x[1]])

    def __matmul__(self, x):
        return np.array([x[1], x[0]])

    def __call__(self, x):
        return self.f(*(self.matrix @ x)) * self.norm(x) + self.made(x) + self @ x


class Derived(Model):
    def __call__(self, x):
        return super().__call__(x) + np.array([x[0], 0.0])


def squared(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) ** 2

    return wrapper


@squared
def decorated(x):
    return np.array([x[0], x[1]])


def make_closure():
    import numpy as local

    weights = np.array([1.0, 2.0, 3.0])

    def inner(x):
        return local.array([x[0], weights[x[1].astype(int)]])

    return inner


def importing(x):
    import math as m

    import numpy.linalg as la
    from numpy import array

    return array([x[0], m.exp(x[1])]) * la.norm([x[0], x[1]])


FUNCTIONS = {"pair": pair, "list": [pair]}


def caller(x):
    def nested(y):
        return np.array([y[0], y[0]])

    class Local:
        def step(self, y):
            return np.array([y[1], 1.0])

    return nested(x) + Local().step(x) + FUNCTIONS["pair"](x[0], 1.0) + FUNCTIONS["list"][0](x[0], x[1])


def with_default(x, f=pair, *, g=pair):
    return f(x[0], 1.0) + g(1.0, x[1])


def generated(x):
    def parts():
        for a in x:
            yield np.array([a, 1.0])

    return sum(parts())


@pytest.mark.parametrize("f", [
    decorated, importing, caller, with_default, generated, make_closure(), Model(), Derived(), Model().__call__,
    functools.partial(with_default, g=pair), lambda x: np.array([x[0], 1.0]), Model.made],
    ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_code_that_a_function_runs_is_reached(f):
    check(f, X)


def test_modules_of_the_user_are_reached(monkeypatch):
    library = types.ModuleType("own_library")
    exec("import numpy as np\nfrom numpy import array, float64\ntable = np.arange(3.0)\n"
         "def pair(x):\n    return array([x[0], float64(x[1])]) + np.array([x[1], table[2]])\n"
         "def deeper(x):\n    return pair(x) * max(x[0], 1.0)", vars(library))
    monkeypatch.setitem(sys.modules, "own_library", library)
    monkeypatch.setitem(globals(), "own_library", library)
    before = dict(vars(library))
    check(lambda x: own_library.deeper(x), X)  # noqa: F821
    assert vars(library) == before


def test_functions_among_the_arguments_are_reached():
    def apply(f, x):
        return f(x)

    def inner(x):
        return np.array([x[0], 1.0])

    np.testing.assert_allclose(mg.trace(lambda x: mg.numpy_code(apply)(inner, x))(X)(X), inner(X))


def test_tables_in_attributes_and_containers_take_traced_indices():
    model, tables = Model(np.array([3.0, 4.0, 5.0])), {"a": np.array([1.0, 2.0]), "b": [np.array([5.0, 6.0])]}

    def f(x, i):
        return x * (model.table[i] + model.offsets[i] + tables["a"][i] + tables["b"][0][i])

    before = model.table, tables["a"], tables["b"][0]
    np.testing.assert_allclose(mg.compile(mg.numpy_code(f))(X, 1), f(X, 1))
    assert all(a is b for a, b in zip((model.table, tables["a"], tables["b"][0]), before, strict=True))


def test_names_are_restored_after_errors():
    class Wrong(Exception):
        pass

    def fails(x):
        assert isinstance(np.array, StandIn)
        pair(x[0], x[1])
        raise Wrong

    before = dict(globals())
    with pytest.raises(Wrong):
        mg.trace(mg.numpy_code(fails))(X)
    assert globals() == before or all(globals()[k] is v for k, v in before.items())
    assert not thread.trace.numpy_code


def test_assignments_to_names_are_kept(monkeypatch):
    monkeypatch.setitem(globals(), "counter", 0)
    monkeypatch.setitem(globals(), "np", np)

    def f(x):
        global counter, np
        counter += 1
        np = types.SimpleNamespace(pi=3.0)
        return x * np.pi

    mg.trace(mg.numpy_code(f))(X)
    assert globals()["counter"] > 0
    assert globals()["np"].pi == 3.0


def test_calls_nest_and_compose():
    inner = mg.numpy_code(lambda x: np.array([x[0], x[1]]).sum())

    def outer(x):
        return inner(x) * np.array([x[0], 1.0])

    check(outer, X)
    traced = mg.numpy_code(lambda x: np.array([x[0] ** 3, x[1]]).sum())
    np.testing.assert_allclose(mg.hessian(traced)(X), [[3.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(mg.vmap(mg.grad(traced))(np.stack([X, 2 * X])), [[0.75, 1.0], [3.0, 1.0]])


def test_loops_of_minigrad_run_numpy_code():
    def f(x):
        def body(y, _):
            new = np.array([y[1], y[0] + y[1]])
            return new, new.sum()

        return mg.scan(body, x, np.zeros(4))[1]

    value = mg.trace(mg.numpy_code(f))(X)(X)
    y, expected = X, []
    for _ in range(4):
        y = np.array([y[1], y[0] + y[1]])
        expected.append(y.sum())
    np.testing.assert_allclose(value, expected)


def test_other_threads_see_numpy_meanwhile():
    inside, done, seen = threading.Event(), threading.Event(), []

    def f(x):
        if isinstance(x, mg.Array):
            inside.set()
            assert done.wait(120)
        return pair(x[0], x[1]) * TABLE[x[0].astype(int)]

    def other():
        assert inside.wait(120)
        seen.append((np.array, np.zeros(2), pair(1.0, 2.0), isinstance(TABLE, np.ndarray), TABLE * 2, np.pi, float(1)))
        done.set()

    beside = threading.Thread(target=other)
    beside.start()
    value = mg.trace(mg.numpy_code(f))(X)(X)
    beside.join()
    np.testing.assert_allclose(value, f(X))
    array, zeros, two, is_array, product, _, one = seen[0]
    assert array is sys.modules["numpy"].array
    assert type(zeros) is type(two) is type(product) is np.ndarray
    assert is_array
    assert type(one) is float


def test_two_threads_trace_at_once():
    meet, results = threading.Barrier(2), {}

    def f(x):
        meet.wait(120)
        out = np.zeros(2)
        out[0] = x[0]
        out[1] = float(x[1])
        return out

    def run(k):
        results[k] = mg.trace(mg.numpy_code(f))(X)

    def first_to_leave(x):
        return pair(x[0], x[1])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    before = dict(globals())
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 2
    assert globals() == before or all(globals()[k] is v for k, v in before.items())
    check(first_to_leave, X)


def test_libraries_keep_numpy():
    """A function of a library that calls NumPy on numbers of the trace runs as it stands."""
    interpolate = pytest.importorskip("scipy.interpolate")
    nodes = np.linspace(0.0, 1.0, 5)

    def f(x):
        coefficients = interpolate.CubicSpline(nodes, np.sin(np.asarray(nodes))).c
        return np.array([x[0], 1.0]) * coefficients[0, 0]

    check(f, X)


def test_modules_that_are_imported_meanwhile_keep_numpy(tmp_path, monkeypatch):
    (tmp_path / "imported_meanwhile.py").write_text("import numpy as np\neye = np.eye(2)\n"
                                                    "def f(x):\n    return np.sum(x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def f(x):
        import imported_meanwhile

        return imported_meanwhile.eye @ np.array([x[0], 1.0])

    mg.trace(mg.numpy_code(f))(X)
    module = sys.modules.pop("imported_meanwhile")
    assert module.np is np
    assert type(module.eye) is np.ndarray


class Link:
    def __init__(self, value, rest=None):
        self.value, self.rest = value, rest


def test_long_chains_are_walked():
    chain = None
    for k in range(3000):
        chain = Link(pair if k == 0 else k, chain)

    def f(x):
        end = chain
        while end.rest is not None:
            end = end.rest
        return end.value(x[0], 1.0)

    check(f, X)
