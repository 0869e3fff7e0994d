"""Axis rules: their notation, the factors of reshapes, and whether results depend on operands as the rules say."""


import numpy as np
import pytest

from minigrad.axes import PARALLEL, axis_rule
from minigrad.graph import PRIMITIVES, ArrayType, TupleType
from minigrad.ops.control import placeholder
from minigrad.symbolic import Dim
from tests import checks

B = Dim.new("B")
CASES = {f"{name}-{i}": (prim, sample) for name, prim in sorted(PRIMITIVES.items()) if prim.axes is not None
         for i, sample in enumerate(prim.samples())}
# Graphs, Python functions and sizes give these their axes; `proj` takes a tuple.
WITHOUT_RULE = {"input", "proj", "barrier", "callback", "checkpoint", "chunked", "custom", "defined_size", "effect",
                "flatnonzero", "packed_scan", "scan", "steps", "switch", "tree_heights", "tree_scan", "while"}


def node_of(name, *shapes, **params):
    return PRIMITIVES[name](*(placeholder(ArrayType(s, np.dtype("f8"))) for s in shapes), **params)


def integers_of(name, *shapes, **params):
    return PRIMITIVES[name](*(placeholder(ArrayType(s, np.dtype("i8"))) for s in shapes), **params)


def test_every_primitive_declares_its_axes():
    without = {name for name, prim in PRIMITIVES.items() if prim.axes is None and not name.startswith("test_")}
    assert without == WITHOUT_RULE


@pytest.mark.parametrize(("node", "rule"), [
    (lambda: node_of("sum", (2, 3, 4), axes=(0, 2)), "[i:add, j, k:add] -> [j]"),
    (lambda: node_of("max", (2, 3), axes=(1,)), "[i, j:max] -> [i]"),
    (lambda: node_of("tanh", (2,)), "[i] -> [i]"),
    (lambda: node_of("transpose", (2, 3, 4), perm=(2, 0, 1)), "[i, j, k] -> [k, i, j]"),
    (lambda: node_of("slice", (5, 4), start=(1, 0), stop=(5, 4), step=(2, 1)), "[i~, j] -> [i~, j]"),
    (lambda: node_of("concatenate", (5, 4), (5, 1), axis=1), "[i, j~], [i, j~] -> [i, j~]"),
    (lambda: node_of("einsum", (2, 3), (3, 4), subscripts="ij,jk->ik"), "[i, j:add], [j:add, k] -> [i, k]"),
    (lambda: node_of("solve", (2, 3, 3), (2, 3, 1)), "[i, j!, k!], [i, j!, l] -> [i, j!, l]"),
    (lambda: node_of("reshape", (B, 2, 3), shape=(B, 6)), "[i, j, k] -> [i, (j k)]"),
    (lambda: integers_of("segment_ids", (2,), size=5), "[i|0] -> [j|0]"),
    (lambda: integers_of("segment_argsort", (5, 3), (5,)), "[i|1, j], [i|1] -> [i|1, j]"),
])
def test_notation(node, rule):
    assert str(axis_rule(node())) == rule



def coordinates(values, shape):
    """Return, per single factor of an array's axes, the coordinate of each element."""
    grid = np.indices(shape)
    return {axis[0]: grid[a] for a, axis in enumerate(values) if len(axis) == 1 and axis[0].kind is PARALLEL}


def replaced(array, at, k):
    """Return the array with one element changed: numbers of other kinds than floats to another one that occurs."""
    array = array.copy()
    array[at] = array[at] * 1.37 + 0.31 if array.dtype.kind == "f" else array.ravel()[k % array.size]
    return array


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_axis_rule_bounds_element_dependencies(case):
    prim, sample = case
    arrays = [np.asarray(a) for a in sample.arrays]
    (node,) = {n for n in checks.program(prim, arrays, sample.params).nodes if n.prim is prim}
    rule = axis_rule(node)

    def run(arrays):
        with np.errstate(all="ignore"):
            out = prim.eval(np, *arrays, **sample.params)
        return out if isinstance(node.type, TupleType) else (out,)

    assert [len(v) for v in rule.operands] == [a.ndim for a in arrays]
    assert [len(v) for v in rule.results] == [np.ndim(r) for r in run(arrays)]
    before, rng = run(arrays), np.random.default_rng(0)
    for k, array in enumerate(arrays):
        for flat in rng.permutation(array.size)[:12]:
            at = np.unravel_index(flat, array.shape)
            try:
                after = run([replaced(a, at, flat + 1) if i == k else a for i, a in enumerate(arrays)])
            except (IndexError, ValueError):  # an index, a matrix or lengths that do not fit
                continue
            here = {f: c[at] for f, c in coordinates(rule.operands[k], array.shape).items()}
            for values, old, new in zip(rule.results, before, after, strict=True):
                if np.shape(old) != np.shape(new):
                    continue  # lengths of another sum
                changed = ~((old == new) | ((old != old) & (new != new)))
                for f, there in coordinates(values, np.shape(old)).items():
                    if f in here:
                        assert (there[changed] == here[f]).all(), f"{rule}: operand {k}, {at}"


@pytest.mark.parametrize("case", [c for c in CASES.values() if c[0].axes.placed is not None],
                         ids=[k for k, c in CASES.items() if c[0].axes.placed is not None])
def test_front_adds_one_parallel_axis(case):
    prim, sample = case
    shapes = [np.shape(a) for a in sample.arrays]
    kinds = [np.asarray(a).dtype for a in sample.arrays]
    batched = prim.axes.placed(sample.params, (None, *range(len(shapes[0]))), 3)
    one, more = (prim(*(placeholder(ArrayType((*front, *s), d)) for s, d in zip(shapes, kinds, strict=True)), **params)
                 for front, params in (((), sample.params), ((3,), batched)))
    for single, batched in zip(*((r.operands + r.results) for r in map(axis_rule, (one, more))), strict=True):
        assert len(batched) == len(single) + 1
        assert batched[0][0].kind is PARALLEL
    assert len({v[0] for r in [axis_rule(more)] for v in r.operands + r.results}) == 1
