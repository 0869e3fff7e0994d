"""Other people's containers and arrays: named tuples, dataclasses, pandas, PyTorch, DLPack."""

import collections
import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.transforms.array_namespace import own

rng = np.random.default_rng(0)
W, X, Y = rng.normal(size=3), rng.normal(size=(5, 3)), rng.normal(size=5)

Point = collections.namedtuple("Point", "w b")


@mg.register_dataclass
@dataclasses.dataclass
class Params:
    w: np.ndarray
    b: float


@mg.register_dataclass(static=("power",))
@dataclasses.dataclass(frozen=True)
class Model:
    w: np.ndarray
    power: int = 2

    def __post_init__(self):
        if not isinstance(self.power, int):
            raise TypeError("power")


def loss(p, x, y):
    return (x @ p.w + p.b - y) ** 2


@pytest.mark.parametrize("kind", [Point, Params])
def test_containers_are_pytrees(kind):
    p = kind(W, 0.5)
    g = mg.grad(mg.mean_loss(loss, (None, 0, 0)))(p, X, Y)
    assert type(g) is kind
    residual = X @ W + 0.5 - Y
    np.testing.assert_allclose(g.w, (2 * residual) @ X / 5)
    np.testing.assert_allclose(g.b, 2 * residual.mean())
    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, (None, 0, 0))))
    np.testing.assert_allclose(step(p, X, Y)[1].w, g.w)
    per = mg.vmap(mg.grad(loss), (None, 0, 0))(p, X, Y)
    assert per.w.shape == (5, 3)
    nested = mg.vmap(lambda p, x: {"again": p, "sum": x.sum()}, (kind(None, None), 0))(p, X)
    assert type(nested["again"]) is kind


def test_static_fields_are_not_traced():
    f = mg.compile(lambda m, x: ((x @ m.w) ** m.power).sum())
    for power in (2, 3, 2):
        np.testing.assert_allclose(f(Model(W, power), X), ((X @ W) ** power).sum())
    assert len(f.entries) == 2
    g = mg.grad(lambda m: (m.w ** m.power).sum())(Model(W, 3))
    assert g.power == 3
    np.testing.assert_allclose(g.w, 3 * W ** 2)


def test_register_dataclass_refuses_invalid_classes():
    with pytest.raises(mg.MinigradError, match="not a dataclass"):
        mg.register_dataclass(int)
    with pytest.raises(mg.MinigradError, match=r"no fields \['q'\]"):
        mg.register_dataclass(dataclasses.make_dataclass("D", ["a"]), static=("q",))
    with pytest.raises(mg.DtypeError, match=r"mg\.register_dataclass"):
        mg.grad(lambda d: d.a)(dataclasses.make_dataclass("D", ["a"])(1.0))


class Column:
    """What answers `__array__`, as a column of a table does."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def test_array_likes_are_arrays():
    f = mg.mean_loss(lambda w, x: (w * x) ** 2, (None, 0))
    column = Column([1.0, 2.0, 3.0])
    want = 4 * 14 / 3
    np.testing.assert_allclose(f(2.0, column), want)
    np.testing.assert_allclose(mg.compile(f)(2.0, column), want)
    np.testing.assert_allclose(mg.grad(lambda w: np.dot(
        np.stack([w, w]), Column([1.0, 2.0])))(2.0), 3.0)


def test_pandas():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [2.0, 1.0, 0.0]})
    f = mg.mean_loss(lambda w, x, y: (w * x - y) ** 2, (None, 0, 0))
    want = ((2.0 * table.x - table.y) ** 2).mean()
    np.testing.assert_allclose(f(2.0, table.x, table.y), want)
    np.testing.assert_allclose(mg.compile(f)(2.0, table.x, table.y), want)


def test_torch_in_and_out():
    torch = pytest.importorskip("torch")
    f = mg.value_and_grad(mg.mean_loss(lambda w, x, y: (x @ w - y) ** 2, (None, 0, 0)))
    want = f(W, X, Y)
    for run in (f, mg.compile(f)):
        value, gradient = run(*map(torch.from_numpy, (W, X, Y)))
        np.testing.assert_allclose(value, want[0])
        np.testing.assert_allclose(torch.from_dlpack(gradient).numpy(), want[1])


def test_results_cross_dlpack():
    g = mg.compile(mg.grad(lambda w: (w ** 2).sum()))(W)
    np.testing.assert_array_equal(np.from_dlpack(g), 2 * W)
    jax = pytest.importorskip("jax")
    np.testing.assert_allclose(jax.numpy.from_dlpack(g), 2 * W, rtol=1e-6)
    f = mg.grad(lambda w: (w ** 2).sum())
    np.testing.assert_allclose(f(jax.numpy.asarray(W.astype("f4"))), 2 * W.astype("f4"))


def test_results_on_a_device_are_the_callers_own():
    """What is a view or an argument is copied, and what occurs twice is two arrays; all else is handed on."""
    x = np.array([1.0, 2.0, 3.0])
    new = np.array([4.0, 5.0])
    view, given, first, second = own([x[:2], x, new, new], [x])
    everything = [x, view, given, first, second]
    assert first is new
    assert not any(np.shares_memory(a, b) for k, a in enumerate(everything) for b in everything[:k])
