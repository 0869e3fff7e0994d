"""Combiners, and the primitives that name one."""

import numpy as np
import pytest

from minigrad import combiners
from minigrad.axes import REDUCE, axis_rule
from minigrad.combiners import Combiner
from minigrad.graph import PRIMITIVES

from . import checks

COMBINERS = {c.name: c for c in vars(combiners).values() if isinstance(c, Combiner)}
VALUES = {"?": [False, True], "i4": [-(2**31), -1, 0, 7, 2**31 - 1], "u1": [0, 1, 255],
          "f4": [-np.inf, -2.5, -0.0, 0.0, 3.0, np.inf, np.nan], "f8": [-np.inf, -1e300, 0.0, 1e-300, np.inf, np.nan]}
KINDS = {"add": "iuf", "fmax": "f", "fmin": "f", "any": "b", "all": "b"}  # of dtype; the others combine all
CASES = [(by, dtype) for by in COMBINERS.values() for dtype in VALUES
         if np.dtype(dtype).kind in KINDS.get(by.name, "biuf")]


@pytest.mark.parametrize(("by", "dtype"), CASES, ids=[f"{by.name}-{dtype}" for by, dtype in CASES])
def test_identity_changes_no_value(by, dtype):
    x = np.array(VALUES[dtype], dtype)
    start = np.full_like(x, by.identity(x.dtype))
    for pair in ((start, x), (x, start)):
        np.testing.assert_array_equal(by.ufunc(*pair), x)


@pytest.mark.parametrize("name", sorted(n for n, p in PRIMITIVES.items() if p.combiner is not None and p.samples()))
def test_axis_rules_print_the_combiner(name):
    prim = PRIMITIVES[name]
    for sample in prim.samples():
        (node,) = checks.program(prim, [np.asarray(a) for a in sample.arrays], sample.params).outputs
        rule = axis_rule(node)
        reduced = {f.by for axes in (rule.operands if rule else ()) for axis in axes for f in axis if f.kind is REDUCE}
        assert reduced <= {prim.combiner.name}


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1"])
@pytest.mark.parametrize("name", ["sum", "max_or_least", "min_or_largest"])
def test_reductions_of_nothing_are_the_identity(name, dtype):
    prim, x = PRIMITIVES[name], np.zeros((2, 0), dtype)
    np.testing.assert_array_equal(prim.eval(np, x, axes=(1,)), [prim.combiner.identity(x.dtype)] * 2)


def defined(prim):
    """Return NumPy's function of a primitive with a combiner, by the name of the axis parameter."""
    by = prim.combiner
    position = {"argmax": np.argmax, "argmin": np.argmin}.get(by.name)

    def reduce(x, axes):
        return by.ufunc.reduce(x, axis=tuple(axes), **({"initial": by.identity(x.dtype)} if x.size == 0 else {}))

    def along(x, axis):
        return position(x, axis) if position else by.ufunc.accumulate(x, axis=axis)

    return {"axes": reduce, "axis": along}


@pytest.mark.parametrize("name", sorted(
    n for n, p in PRIMITIVES.items() if p.combiner is not None and p.samples()
    and {"axes", "axis"}.intersection(p.samples()[0].params)))
def test_a_combiner_says_all_of_an_operation(name):
    """Backends print the combiner and do not ask the evaluation: both must be the same function."""
    prim = PRIMITIVES[name]
    for sample in prim.samples():
        (x,), ((key, value),) = sample.arrays, sample.params.items()
        x = np.asarray(x)
        if x.size:
            want = defined(prim)[key](x, value)
            np.testing.assert_allclose(prim.eval(np, x, **sample.params), want, rtol=1e-12, atol=1e-12)
