"""Dataclasses as pytrees: arrays move, static fields are part of the structure."""

import dataclasses
import pickle

import numpy as np
import optree
import pytest

import minigrad as mg


@mg.register_dataclass
@dataclasses.dataclass
class Pair:
    a: object
    b: object


@mg.register_dataclass(static=("power",))
@dataclasses.dataclass(frozen=True)
class Power:
    w: object
    power: int = 2


def test_fields_are_leaves_in_order():
    leaves, tree = optree.tree_flatten(Pair(1.0, {"x": 2.0}))
    assert leaves == [1.0, 2.0]
    assert optree.tree_unflatten(tree, [3.0, 4.0]) == Pair(3.0, {"x": 4.0})


def test_static_fields_belong_to_the_structure():
    leaves, tree = optree.tree_flatten(Power(5.0, 3))
    assert leaves == [5.0]
    assert optree.tree_unflatten(tree, [1.0]) == Power(1.0, 3)
    assert tree != optree.tree_structure(Power(5.0, 2))


def test_gradients_have_the_class():
    g = mg.grad(lambda p: p.w**p.power)(Power(2.0, 3))
    assert (g.w, g.power) == (12.0, 3)
    both = mg.grad(lambda p: p.a * p.b)(Pair(3.0, 4.0))
    assert (both.a, both.b) == (4.0, 3.0)


def test_registered_trees_pickle():
    tree = optree.tree_structure(Power(1.0, 4))
    f = mg.compile(lambda p: p.w * p.power)
    f(Power(1.0, 4))
    assert pickle.loads(pickle.dumps(f))(Power(2.0, 4)) == 8.0
    assert tree == optree.tree_structure(Power(np.ones(2), 4))


@pytest.mark.parametrize(("cls", "static", "message"), [
    (int, (), "not a dataclass"), (dataclasses.make_dataclass("D", ["a"]), ("q",), r"no fields \['q'\]")])
def test_other_classes_and_fields_are_refused(cls, static, message):
    with pytest.raises(mg.MinigradError, match=message):
        mg.register_dataclass(cls, static=static)
