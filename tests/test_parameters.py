"""Checks of static parameters against the types that their primitive declares."""

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES
from minigrad.parameters import check_params, is_of
from minigrad.symbolic import Dim

n = Dim.new("n")


@pytest.mark.parametrize(("kind", "values", "others"), [
    (int, [0, 7, 2**63 - 1], [-1, 2**63, True, 1.0, "1", None, np.int64(3)]),
    (float, [0.5, -1.0, 3], [True, "0.5", None, np.float32(1)]),
    (bool, [True, False], [0, 1, None]),
    (str, ["", "add", "β"], ["a\nb", "\0", b"add", None]),
    (int | None, [None, 4], [-1, "4"]),
    (int | Dim, [3, n], [-3, 1.5]),
    (tuple[int, ...], [(), (1,), (1, 2, 3)], [(1, -2), [1], 1, (1, "2")]),
    (tuple[int, bool], [(1, True)], [(1,), (1, 1), (1, True, 2)]),
    (tuple[tuple[int, ...] | None, ...], [(None, (1, 2)), ()], [((1, "a"),)]),
    (np.dtype, [np.dtype("f4")], ["f4", np.float32]),
    (Any, [object(), None, -1], []),
])
def test_values_of_types(kind, values, others):
    assert [v for v in values if not is_of(v, kind)] == []
    assert [v for v in others if is_of(v, kind)] == []


def test_parameters_of_a_primitive():
    check = PRIMITIVES["sum"]
    check_params(check, {"axes": (0, 2)})
    for params, message in (({}, "sum lacks its parameter 'axes'"),
                            ({"axes": (0,), "out": 1}, "sum has no parameter 'out'"),
                            ({"axes": (-1,)}, r"sum: axes='\(-1,\)' is not a value of type tuple"),
                            ({"axes": [0]}, r"sum: axes='\[0\]' is not a value of type tuple")):
        with pytest.raises(mg.GraphError, match=message):
            check_params(check, params)
