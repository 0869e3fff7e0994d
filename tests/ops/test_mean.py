"""`split_mean` on random trees, and means over empty axes."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import Graph, full
from minigrad.ops.differences import is_difference
from minigrad.ops.mean import split_mean
from minigrad.symbolic import Dim
from tests import checks

F8 = np.dtype("f8")


# A tree is a leaf's name or (operation, trees). Leaves: x, y vary along axis 0; J and k do not; s does along
# neither axis; 2 is a number.
TREES = st.recursive(
    st.sampled_from(["x", "y", "J", "k", "s", "2"]),
    lambda t: st.one_of(st.tuples(st.sampled_from(["add", "sub", "mul", "div"]), t, t),
                        st.tuples(st.sampled_from(["neg", "sin"]), t)), max_leaves=12)


def build(tree, leaves):
    if isinstance(tree, str):
        return leaves[tree]
    return P[tree[0]](*(build(t, leaves) for t in tree[1:]))


def affine(tree, leaves):
    """Return which of (what varies, what does not) the tree has at its top, by the rule's own words."""
    if isinstance(tree, str):
        return (True, False) if tree in "xy" else (False, True)
    op, *rest = tree
    sides = [affine(t, leaves) for t in rest]
    if op in ("add", "sub", "neg"):
        varies, constant = any(s[0] for s in sides), any(s[1] for s in sides)
        return varies, constant and not (varies and is_difference(build(tree, leaves)))
    if op == "mul" and not (sides[0][0] and sides[1][0]):
        both = sides if sides[1][0] is False else sides[::-1]
        return both[0]
    if op == "div" and not sides[1][0]:
        return sides[0]
    return True, False


@given(TREES, st.sampled_from([(0,), (0, 1)]), st.booleans())
@example(("sub", "J", ("neg", "x")), (0,), False)  # no difference, for the signs differ
@example(("sub", "x", ("neg", "J")), (0,), False)
def test_split_mean_keeps_the_value_and_takes_every_constant_out(tree, axes, symbolic):
    b = Dim.new("B") if symbolic else 3
    x, y = (checks.placeholder((b, 2), "f8") for _ in "xy")
    j, k, s = (checks.placeholder(shape, "f8") for shape in ((2,)[len(axes) - 1:], (2,)[len(axes) - 1:], ()))
    spread = {n: P["expand"](v, shape=(b, 2), axes=axes) for n, v in (("J", j), ("k", k))}
    leaves = {"x": x, "y": y, **spread, "s": P["expand"](s, shape=(b, 2), axes=(0, 1)), "2": full(2.0, (b, 2), F8)}
    before = P["mean"](build(tree, leaves), axes=axes)
    after = split_mean(before)
    varies, constant = affine(tree, leaves)
    assert (after is not None) == constant
    if after is None:
        return
    assert after.type == before.type
    graph = Graph((x, y, j, k, s), (before, after)).check()
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(1, 2, (3, 2)), rng.uniform(1, 2, (3, 2)),
              *(rng.uniform(1, 2, n.shape) for n in (j, k, s))]
    sizes = {b.symbol: 3} if symbolic else None
    everything = Graph(graph.inputs, tuple(graph.nodes))
    assume(
        all(np.all(np.abs(v) < 1e6) for v in interpreters.evaluate(everything, arrays, sizes))
    )  # no quotient by almost 0
    want, have = interpreters.evaluate(graph, arrays, sizes)
    checks.close(have, want, str(tree), 1e-7)
    means = [n for n in interpreters.reachable([after]) if n.prim.name == "mean"]
    assert len(means) == varies
    assert all(split_mean(m) is None for m in means)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("f", [lambda x: np.mean(np.ones_like(x)), lambda x: np.mean(x * 0 + 1.0, axis=-1),
                               lambda x: np.mean(np.full(x.shape, 2.0) + x, axis=(0, 1)), np.mean])
@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:invalid value")
def test_mean_over_an_empty_axis_is_nan(f, backend):
    x = np.zeros((2, 0))
    compiled = mg.compile(f, backend=backend)(x)
    assert np.isnan(compiled).all()
    assert np.isnan(mg.compile(mg.vmap(f), backend=backend)(np.zeros((3, 2, 0)))).all()
    assert np.isnan(mg.vmap(f)(np.zeros((3, 2, 0)))).all()
