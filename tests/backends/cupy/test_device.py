"""Arrays, memory and flags of the device."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.primitive import on_host

from . import cupy_on_numpy


def test_arrays_of_other_libraries_are_awaited(on_stand_in):
    step = mg.compile(lambda x: np.sum(x ** 2), backend="cupy")
    eager = mg.grad(lambda x: np.sum(x ** 2))
    for f, want in ((step, 14.0), (mg.compile(lambda x: np.sum(x ** 2)), 14.0), (eager, [2.0, 4.0, 6.0])):
        x = Foreign(np.array([1.0, 2.0, 3.0]))
        np.testing.assert_array_equal(on_host(f(x)), want)
        assert x.asked == [0]
    np.testing.assert_array_equal(on_host(Foreign(np.arange(3))), np.arange(3))


class Foreign:
    """JAX's or PyTorch's array on the device: it is computed when its producer is asked by DLPack."""

    def __init__(self, values):
        self.values, self.asked = values, []
        self.__cuda_array_interface__ = {"shape": values.shape, "typestr": values.dtype.str, "version": 2,
                                         "data": (0, True)}

    def __dlpack__(self, *, stream):
        self.asked.append(stream)
        return self.values


def test_flags_are_unique(stand_in):
    cells = [stand_in.flag() for _ in range(1200)]
    assert len({address for _, address in cells}) == 1200
    for cell, address in cells:
        assert (cell[0], cell.ctypes.data) == (0, address)


def test_out_of_memory_is_a_memory_error(stand_in, monkeypatch):
    monkeypatch.setattr(cupy_on_numpy.POOL, "limit", 7)
    with pytest.raises(MemoryError, match="no 8 bytes left"):
        stand_in.allocate(8)
