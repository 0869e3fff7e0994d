"""Types of arrays as arguments of `trace`: ``mg.f32[784, 10]``."""

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize(("spec", "dtype"), [
    (mg.f16, "f2"), (mg.f32, "f4"), (mg.f64, "f8"), (mg.i8, "i1"), (mg.i64, "i8"), (mg.u16, "u2"), (mg.bool_, "?")])
def test_subscripts_give_array_types(spec, dtype):
    for shape, want in ((3, (3,)), ((2, 3), (2, 3)), ((), ())):
        t = spec[shape]
        assert (t.shape, t.dtype) == (want, np.dtype(dtype))


def test_sizes_may_be_symbols():
    batch = mg.dim("B")
    graph = mg.trace(lambda x: np.sum(x, axis=1))(mg.f64[batch, 3])
    assert str(graph.outputs[0].type) == "f64[B]"
    np.testing.assert_array_equal(graph(np.ones((5, 3))), [3.0] * 5)


@pytest.mark.parametrize("shape", [-1, 2.5, (3, "n")])
def test_other_sizes_are_refused(shape):
    with pytest.raises(mg.MinigradError):
        mg.f64[shape]


def test_names_are_no_sizes():
    with pytest.raises(mg.ShapeError, match=r"a shape holds sizes, not 'node': mg.axis\('node'\) for rows of examples"):
        mg.f32["node", 3]
