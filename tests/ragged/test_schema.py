"""Schemas: the checks of an example's arrays, annotations, copies and printed forms."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest

import minigrad as mg

from .cases import Molecule, edge, node


def test_empty_lists_fit_every_rank():
    batch = mg.batch([[[1.0, 2.0], [3.0, 4.0]], [], [[5.0, 6.0]]], mg.f64[node, 2])
    assert batch.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert [np.shape(x) for x in batch] == [(2, 2), (0, 2), (1, 2)]
    with pytest.raises(mg.ShapeError, match="with 2 axes, got 1"):
        mg.batch([np.zeros(0)], mg.f64[node, 2])


GOOD = {"x": np.ones((2, 4)), "src": [0, 1, 1], "dst": [1, 1, 0], "w": np.ones(3), "y": np.ones(3)}


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"src": [0, 2, 1]}, mg.BatchError, r"Molecule.src\[1\] is 2: no such row of node, it has rows 0..1"),
    ({"src": [0, -1, 1]}, mg.BatchError, r"Molecule.src\[1\] is -1.*null=-1"),
    ({"x": np.ones((0, 4))}, mg.BatchError, r"Molecule.src\[0\] is 0: no such row of node, it has no rows"),
    ({"w": np.ones(2)}, mg.ShapeError, "edge is 2 here, but 3 in Molecule.src"),
    ({"x": np.ones((2, 5))}, mg.ShapeError, r"expected f64\[node, 4\], got shape \[2, 5\]"),
    ({"x": np.ones(2)}, mg.ShapeError, r"expected f64\[node, 4\], with 2 axes, got 1"),
    ({"x": np.ones((2, 4), np.float32)}, mg.DtypeError, r"expected f64\[node, 4\], got float32"),
    ({"src": [0.0, 1.0, 1.0]}, mg.DtypeError, r"expected index\(node\)\[edge\], got float64"),
    ({"y": ["a", "b", "c"]}, mg.DtypeError, "Molecule.y"),
    ({"y": None}, mg.BatchError, "Molecule.y is missing"),
])
def test_wrong_fields_are_refused(change, error, words):
    with pytest.raises(error, match=words) as caught:
        Molecule(**{**GOOD, **change})
    assert "test_schema.py" in str(caught.value)


def test_missing_and_extra_fields_are_refused():
    with pytest.raises(TypeError, match="missing 1 required"):
        Molecule(np.ones((2, 4)), [0], [0], [1.0])
    with pytest.raises(TypeError, match="unexpected keyword"):
        Molecule(**GOOD, z=1)


def test_incomplete_schemas_are_refused():
    with pytest.raises(mg.BatchError, match=r"points into node, but no field has that axis.*mg.count\(node\)"):
        mg.example(type("A", (), {"__annotations__": {"src": mg.index(node)[edge]}}))
    with pytest.raises(mg.BatchError, match="no annotated field"):
        mg.example(type("A", (), {}))
    with pytest.raises(mg.BatchError, match="expected the type of a field"):
        mg.example(type("A", (), {"__annotations__": {"x": float}}))
    with pytest.raises(mg.BatchError, match="batches have an attribute of that name"):
        mg.example(type("A", (), {"__annotations__": {"lengths": mg.f64[node]}}))
    with pytest.raises(mg.DtypeError, match="the default: dtype str32"):
        mg.example(type("A", (), {"__annotations__": {"x": mg.f64[node]}, "x": "a"}))
    with pytest.raises(mg.ShapeError, match=r"A.x: the default: expected f64\[2\], got shape \[3\]"):
        mg.example(type("A", (), {"__annotations__": {"x": mg.f64[2]}, "x": [1.0, 2.0, 3.0]}))
    with pytest.raises(mg.BatchError, match="follows default argument"):
        mg.example(type("A", (), {"__annotations__": {"x": mg.f64[2], "y": mg.f64[2]}, "x": 0.0}))
    cls = mg.example(type("A", (), {"__annotations__": {"x": mg.f64[node]}, "x": 3}))
    with pytest.raises(mg.BatchError, match="the size of node is not known"):
        cls()


def test_annotations_may_be_strings():
    width = 5
    kinds = {"x": "mg.f64[node, width]"}
    cls = mg.example(type("A", (), {"__annotations__": kinds, "__module__": __name__}))
    assert str(cls.__schema__.fields["x"]) == f"f64[node, {width}]"


def test_schema_attributes_of_other_libraries_are_ignored():
    class Other:
        __schema__ = "another one"

    with pytest.raises(mg.BatchError, match="whose axes are not known"):
        mg.batch([Other()])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_of_axes_types_and_schemas(again):
    for x in (node, mg.f32[node, 3], mg.index(node, null=-1)[edge], mg.count(edge), mg.shared(mg.f32[2]),
              mg.batch([np.ones(1)], mg.f64[node]).schema, mg.f32[3]):
        assert again(x) == x
        assert hash(again(x)) == hash(x)
    assert mg.axis("node") == again(node)


def test_postponed_annotations_are_evaluated_in_the_module_of_the_class():
    text = ("from __future__ import annotations\nnode = mg.axis('node')\n"
            "@mg.example\nclass Points:\n    x: mg.f32[node, 2]\n")
    scope = {"mg": mg, "__name__": "somewhere"}
    exec(compile(text, "somewhere.py", "exec", dont_inherit=True), scope)
    assert scope["Points"](x=np.ones((3, 2), "f4")).x.shape == (3, 2)


def test_repr_of_an_example():
    @mg.example
    class Printed:
        x: mg.f32[node, 3]
        n: mg.count(node)
        y: mg.f64[()]
        z: mg.f64[()] = None

    printed = Printed(x=np.ones((2, 3), np.float32), n=2, y=0.5)
    assert repr(printed) == "Printed(x: float32[2, 3], n=2, y=0.5, z=None)"


@mg.example
class Weighted:
    x: mg.f64[node, 2]
    src: mg.index(node, dtype=np.int32)[edge]
    w: mg.f64[edge] = 1.0
    parent: mg.index(node, null=-1)[node] = -1
    scale: mg.f64[2] = (1.0, 2.0)
    y: mg.f64[()] = 0.5
    LIMIT: ClassVar[float] = 3.0

    def __post_init__(self):
        if np.any(self.w > self.LIMIT):
            raise ValueError("a weight is too large")

    @property
    def size(self):
        return self.x.shape[0]

    def energy(self):
        return np.sum(self.x[self.src] * self.w[:, None] * self.scale) + self.y * self.size


def test_defaults_fill_the_sizes_of_other_fields():
    g = Weighted(np.ones((3, 2)), [0, 2])
    assert g.w.tolist() == [1, 1]
    assert g.parent.tolist() == [-1, -1, -1]
    assert g.scale.tolist() == [1, 2]
    assert g.y == 0.5
    assert g.src.dtype == np.int32
    other = Weighted(np.ones((3, 2)), [0, 2])
    other.w[0] = 7
    assert g.w[0] == 1
    assert Weighted(np.ones((0, 2)), []).w.shape == (0,)


def test_schemas_have_methods():
    examples = [Weighted(np.full((n, 2), n + 1.0), np.arange(m)) for n, m in ((3, 2), (0, 0), (1, 1))]
    batch = mg.batch(examples)
    np.testing.assert_allclose(mg.vmap(Weighted.energy)(batch), [g.energy() for g in examples])
    np.testing.assert_allclose(mg.vmap(lambda g: g.energy() * g.LIMIT)(batch), [3 * g.energy() for g in examples])
    with pytest.raises(ValueError, match="too large"):
        Weighted(np.ones((3, 2)), [0], [4.0])


def test_subclasses_have_the_fields_of_their_base():
    @mg.example
    class Labelled(Weighted):
        label: mg.i64[()] = 0

    g = Labelled(np.ones((3, 2)), [0, 2], label=4)
    assert list(Labelled.__schema__.fields) == [*Weighted.__schema__.fields, "label"]
    assert (g.label, g.y, g.size) == (4, 0.5, 3)
    with pytest.raises(ValueError, match="too large"):
        Labelled(np.ones((3, 2)), [0], [4.0])
    batch = mg.batch([g, Labelled(np.ones((1, 2)), [])])
    assert batch.label.tolist() == [4, 0]
    np.testing.assert_allclose(mg.vmap(Labelled.energy)(batch), [e.energy() for e in batch])
