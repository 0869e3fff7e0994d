"""What is said where something is missing."""

import importlib.util
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.cupy import driver
from minigrad.errors import MinigradError


class Library:
    """A stand-in for libcuda that finds `count` devices."""

    def __init__(self, count):
        self.count = count

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.count
        return 0


def have(monkeypatch, cupy=True, cuda=None, libraries=(), available=False):
    class Runtime:
        driverGetVersion = staticmethod(lambda: 11000)
        runtimeGetVersion = staticmethod(lambda: 13000)

    class Cuda:
        is_available = staticmethod(lambda: available)
        runtime = Runtime

    monkeypatch.setitem(sys.modules, "cupy", type("cupy", (), {"cuda": Cuda}) if cupy else None)
    monkeypatch.setattr(driver, "_libcuda", lambda: cuda)
    monkeypatch.setattr(driver, "find", lambda name: name if name in libraries else None)


def test_each_thing_that_may_be_missing_is_named(monkeypatch):
    both = ("nvrtc", "cublas")
    for world, words in (
            ({"cupy": False}, "pip install 'minigrad[cuda]'"),
            ({}, "no NVIDIA driver found"),
            ({"cuda": Library(0)}, "no GPU is found"),
            ({"cuda": Library(1)}, "too old"),
            ({"cuda": Library(1), "available": True}, "pip install nvidia-cuda-nvrtc"),
            ({"cuda": Library(1), "available": True, "libraries": ("nvrtc",)}, "pip install nvidia-cublas")):
        have(monkeypatch, **world)
        assert words in driver.missing()
        assert "\n" not in driver.missing()
        with pytest.raises(MinigradError, match="backend 'cupy': "):
            mg.compile(np.sin, backend="cupy")
    have(monkeypatch, cuda=Library(1), available=True, libraries=both)
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    assert "array-api-compat is not installed" in driver.missing()


def test_import_needs_no_gpu():
    assert "minigrad.backends.cupy" in sys.modules
    if importlib.util.find_spec("cupy") is None:
        assert "CuPy is not installed" in driver.missing()


def test_precision_is_one_of_two():
    with pytest.raises(MinigradError, match="backend 'numpy' has no option precision"):
        mg.compile(np.sin, backend="numpy", precision="tf32")
    with pytest.raises(MinigradError, match="has no option speed"):
        mg.compile(np.sin, backend="cupy", speed="high")
