"""Stand-ins: functions of NumPy and Python on traced values, each against itself on numbers; other threads' view."""

import builtins
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad.plain.stand_ins import MODULES, kind, stand_in

V, S, I = np.array([0.5, 1.5, 2.5]), 0.75, 2  # noqa: E741
TABLE = np.arange(12.0).reshape(4, 3)

CASES = {
    "array": lambda v: np.array([[v[0], 1.0], [2.0, v[1]]]), "array of arrays": lambda v: np.array([v, 2 * v]),
    "asarray": lambda v: np.asarray(v, dtype=np.float32), "array of a tuple": lambda v: np.array((v[0], 1)),
    "r_": lambda v: np.r_[v, 1.0, v[:1]], "c_": lambda v: np.c_[v, v**2], "mgrid": lambda v: np.mgrid[0:3] * v,
    "ogrid": lambda v: np.ogrid[0:3] * v, "full": lambda v: np.full(3, v[0]), "eye": lambda v: np.eye(3)[1] * v,
    "full_like": lambda v: np.full_like(v, v[1]), "pad": lambda v: np.pad(v, 1, constant_values=v[0]),
    "mean of a list": lambda v: np.mean([v[0], v[1]]), "maximum of a list": lambda v: np.maximum([v[0], 1.0], 0.75),
    "vstack": lambda v: np.vstack([v, v]), "block": lambda v: np.block([[v[0], v[1]], [1.0, v[2]]]),
    "polyval": lambda v: np.polyval([v[0], 1.0], 2.0), "vander": lambda v: np.vander(v, 3),
    "diag": lambda v: np.diag(v),
    "interp": lambda v: np.interp(v[0], [0.0, 1.0], v[:2]), "outer": lambda v: np.add.outer(v, v),
    "reduce": lambda v: np.add.reduce([v[0], v[1]]), "accumulate": lambda v: np.multiply.accumulate(v),
    "norm": lambda v: np.linalg.norm([v[0], v[1]]), "fftshift": lambda v: np.fft.fftshift(v),
    "trapezoid": lambda v: np.trapezoid(v, dx=0.5), "select": lambda v: np.select([v > 1], [v], 0.0),
    "float": lambda v: float(v[0]) * 2, "int": lambda v: int(v[2]) + v, "float64": lambda v: np.float64(v[0]),
    "float32": lambda v: np.float32(v[1]), "int64": lambda v: np.int64(v[2]), "round": lambda v: np.round(v, 1),
    "max": lambda v: max(v[0], 1.0, v[1]), "max of a list": lambda v: max([v[0], v[1]]), "max of one": lambda v: max(v),
    "min": lambda v: min(v[0], 1), "min of one": lambda v: min(v), "sum": lambda v: sum([v[0], v[1]], 2.0),
    "abs": lambda v: abs(v[0] - 1), "pow": lambda v: pow(v[0], 2), "divmod": lambda v: divmod(v, 2)[1],
    "item": lambda v: v[1].item() + v.item(0), "tolist": lambda v: np.array([2 * x for x in v.tolist()]),
    "math.log base": lambda v: math.log(v[0], 2), "math.floor": lambda v: math.floor(v[1]) * v,
    "math.hypot": lambda v: math.hypot(v[0], v[1], v[2]), "math.dist": lambda v: math.dist(v, [1.0, 1.0, 1.0]),
    "math.fsum": lambda v: math.fsum(v), "math.prod": lambda v: math.prod([v[0], v[1]], start=2.0),
    "math.pow": lambda v: math.pow(v[0], 2), "math.erf": lambda v: math.erf(v[0]),
    "math.gamma": lambda v: math.gamma(v[0]),
    "math.lgamma": lambda v: math.lgamma(v[1]), "math.atan2": lambda v: math.atan2(v[0], v[1]),
    "math.degrees": lambda v: math.degrees(v[0]),
    "math.fabs": lambda v: math.fabs(v[0]),
    "math.pi": lambda v: math.pi * v,
    "math.isclose": lambda v: math.isclose(v[0], 0.5) * v, "table": lambda v: TABLE[1] @ v,
    "isinstance of an array": lambda v: v * isinstance(v, np.ndarray), "shape": lambda v: np.zeros(v.shape) + v[0],
    "isinstance of a number": lambda v: v * isinstance(v[0], float) * (not isinstance(v, float)),
    "isscalar": lambda v: v * np.isscalar(v[0]), "ndim": lambda v: v * np.ndim(v), "len": lambda v: v * len(v),
    "dtype": lambda v: np.zeros(3, dtype=float) + np.ones(3, dtype=np.int32) * v,
    "compared dtype": lambda v: v * (v.dtype == np.float64) * np.issubdtype(v.dtype, np.floating),
    "subclass": lambda v: v * issubclass(np.float64, float), "inf": lambda v: np.minimum(v, float("inf")),
    "max of a generator": lambda v: max(2 * a for a in v), "fsum of a generator": lambda v: math.fsum(a for a in v),
    "positional out": lambda v: np.add(v, 1.0, np.empty(3)),
    "no traced value": lambda v: np.unique(np.array([3.0, 1.0, 3.0])).sum() + math.factorial(int(np.ceil(2.5))) + v}


@pytest.mark.parametrize("name", CASES)
def test_functions_agree_with_numpy(name):
    f = CASES[name]
    expected = f(V)
    traced = mg.numpy_code(f)
    ours = mg.compile(traced)(V)
    np.testing.assert_allclose(ours, expected)
    assert np.asarray(ours).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(mg.vmap(traced)(np.stack([V, 2 * V])), [f(V), f(2 * V)])
    if np.asarray(expected).dtype == float and name != "round":
        mg.check_grads(lambda v: np.sum(traced(v)), (V * 0.9,), order=1)


def test_a_table_takes_traced_indices():
    def f(v, i):
        return TABLE[i] @ v + TABLE[i, 1] + TABLE[:, i][0] + list(TABLE)[1][i] + np.eye(4)[i].sum() + (
            TABLE[[i, 0]].sum())

    traced = mg.numpy_code(f)
    np.testing.assert_allclose(mg.compile(traced)(V, I), f(V, I))
    np.testing.assert_allclose(mg.vmap(traced, in_axes=(None, 0))(V, np.array([0, 2])), [f(V, 0), f(V, 2)])


def test_outside_of_numpy_code_stand_ins_are_the_objects_themselves():
    for name in ("numpy", "math"):
        module = __import__(name)
        other = stand_in(module)
        assert repr(other) == repr(module)
        assert dir(other) == dir(module)
        assert all(getattr(other, n) is getattr(module, n) for n in dir(module) if not n.startswith("_"))
        assert pickle.loads(pickle.dumps(other)) is module
        assert name in MODULES
    array = stand_in(np.array)
    assert pickle.loads(pickle.dumps(array)) is np.array
    assert array([1, 2]).tolist() == [1, 2]
    assert array.__name__ == "array"
    assert stand_in(np.add).reduce is not None
    assert stand_in(np.add).nin == 2
    assert stand_in(array) is None
    assert stand_in(builtins.sorted) is None


def test_stand_ins_of_types():
    number = kind(float)
    assert number == float  # noqa: E721  (the stand-in is equal, and another object)
    assert hash(number) == hash(float)
    assert repr(number) == repr(float)
    assert number("2.5") == 2.5
    assert isinstance(1.0, number)
    assert not isinstance(1, number)
    assert issubclass(np.float64, number)
    assert number.fromhex("0x1p1") == 2.0
    assert np.zeros(2, dtype=number).dtype == float
    assert np.dtype(kind(np.int32)) == np.int32
    assert kind(float) is number


def test_the_module_takes_attributes():
    module = stand_in(math)
    module.own = 1
    try:
        assert math.own == 1
    finally:
        del math.own
