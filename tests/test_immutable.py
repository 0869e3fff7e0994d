"""Copies of objects that never change are the objects themselves; records have fields; properties keep their value."""

import copy
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.immutable import Frozen, Immutable, Record, cached_property
from minigrad.sizes import shown
from minigrad.tracing import Tagged

ROOT = Path(__file__).parents[1]
GRAPH = mg.trace(np.sin)(mg.f64[mg.dim("n")])
OBJECTS = {"node": GRAPH.outputs[0], "size": mg.dim("n"), "symbol": mg.dim("n").symbol, "shown": shown(mg.dim("n")),
           "tagged": Tagged(3, (0, 1)), "gradient": mg.grad(np.sin), "pullback": mg.vjp(np.sin, 1.0)[1],
           "compiled": mg.compile(np.sin), "traced": mg.traced_array.as_array(1.0)}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_copy_is_the_object(name):
    x = OBJECTS[name]
    assert isinstance(x, Immutable)
    assert copy.copy(x) is x
    assert copy.deepcopy([x, {"key": x}]) == [x, {"key": x}]
    assert copy.deepcopy(x) is x


def test_slots_have_no_dict():
    assert not hasattr(GRAPH.outputs[0], "__dict__")


class Counted:
    def __init__(self):
        self.count = 0

    @cached_property
    def number(self):
        self.count += 1
        return self.count


def test_property_is_computed_once():
    x = Counted()
    assert [x.number, x.number, Counted().number, x.count] == [1, 1, 1, 1]
    assert isinstance(Counted.number, cached_property)


def test_property_has_the_value_of_the_thread_that_ends_first():
    class Late(Counted):
        @cached_property
        def number(self):
            vars(self)["number"] = 7  # by another thread, meanwhile
            return 8

    assert Late().number == 7


FORK = """
import os, signal, threading
import minigrad as mg

began, go = threading.Event(), threading.Event()

def names():  # of a graph, asked for by one thread
    began.set()
    assert go.wait(60)
    return ("x",)

graph, other = (mg.trace(mg.stop_gradient)(mg.f64[3]) for _ in range(2))
slow = graph.replace(names=names)
thread = threading.Thread(target=lambda: slow.names)
thread.start()
assert began.wait(60)
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(other.replace(names=lambda: ("y",)).names != ("y",))
go.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_forked_child_has_properties_that_another_thread_was_computing():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_every_cached_property_is_without_a_lock():
    files = [path for path in (ROOT / "minigrad").rglob("*.py") if path.name != "immutable.py"]
    assert not [path for path in files
                if re.search(r"functools(\.| import .*)cached_property", path.read_text(encoding="utf-8"))]


class Point(Record):
    x: int
    y: int = 0


class Labelled(Frozen, Point):
    label: str = "origin"

    def __post_init__(self):
        vars(self)["text"] = f"{self.label} at {self.x}, {self.y}"


@pytest.mark.parametrize(("values", "named", "expected"), [
    ((1,), {}, (1, 0)), ((1, 2), {}, (1, 2)), ((1,), {"y": 2}, (1, 2)), ((), {"y": 2, "x": 1}, (1, 2))])
def test_fields_of_records_are_given_by_position_or_name(values, named, expected):
    point = Point(*values, **named)
    assert (point.x, point.y) == expected


@pytest.mark.parametrize(("values", "named"), [
    ((), {}), ((), {"y": 1}), ((1, 2, 3), {}), ((1,), {"x": 2}), ((1,), {"z": 2})])
def test_records_refuse_missing_repeated_and_unknown_fields(values, named):
    with pytest.raises(TypeError, match=r"^Point takes the fields x, y$"):
        Point(*values, **named)


def test_records_are_equal_to_themselves_alone():
    point = Point(1)
    assert point == point
    assert point != Point(1)
    assert len({point, Point(1)}) == 2


def test_records_inherit_fields_and_keep_what_they_make_of_them():
    here = Labelled(1, 2, label="here")
    assert here.text == "here at 1, 2"
    assert Labelled(3).text == "origin at 3, 0"
    copied = pickle.loads(pickle.dumps(here))
    assert vars(copied) == vars(here)


def test_attributes_of_frozen_objects_stay():
    here = Labelled(1)
    with pytest.raises(AttributeError, match=r"^a Labelled is frozen: make a new one$"):
        here.x = 2
    with pytest.raises(AttributeError, match=r"^a Labelled is frozen$"):
        del here.x
    assert here.x == 1


def functions_among_defaults(cls):
    return [name for name in cls._fields if isinstance(getattr(cls, name, None), types.FunctionType)]


def test_defaults_of_records_are_no_functions():
    """A function that a class has for an attribute is a method."""
    class Wrong(Record):
        size: object = lambda node: 0

    assert functions_among_defaults(Wrong) == ["size"]
    code = ("import minigrad.compiler, minigrad.registry, minigrad.backends.native.program\n"
            "from minigrad.immutable import Record\nfrom tests.test_immutable import functions_among_defaults\n"
            "classes = Record.__subclasses__()\n"
            "assert len(classes) > 20\n"
            "for cls in classes:\n    classes += cls.__subclasses__()\n    assert not functions_among_defaults(cls)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
