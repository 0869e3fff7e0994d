"""Functions of modules that are imported on demand."""

import sys

import pytest

from minigrad.backends.native.kernels import steps
from minigrad.backends.native.runtime.on_demand import function


def test_a_function_is_that_of_the_module(monkeypatch):
    name = "minigrad.backends.native.kernels.trees"
    assert function("kernels.trees.heights") is sys.modules[name].heights
    monkeypatch.delitem(sys.modules, name)
    assert function("kernels.trees.heights") is function("kernels.trees.heights")
    assert name not in sys.modules, "it is looked up once"


@pytest.mark.parametrize("path", ["kernels.trees.absent", "kernels.absent.heights"])
def test_absent_functions_raise(path):
    with pytest.raises((AttributeError, ImportError), match="absent"):
        function(path)


def test_all_functions_of_the_table_of_steps_exist():
    paths = set()
    for kind in steps.STEPS.values():
        for f, end in ((kind.make, ""), (kind.unable, ".unable"), (kind.room, "")):
            if "kernels." in f.__code__.co_consts:  # the function names another one
                (cell,) = f.__closure__
                paths.add(f"kernels.{cell.cell_contents}{end}")
    assert {"kernels.trees.heights", "kernels.copies.unable", "kernels.gather_scatter.room"} <= paths
    assert all(callable(function(path)) for path in paths)
