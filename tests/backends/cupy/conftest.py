"""The device that this folder's tests run on: a stand-in, or, where ``-m gpu`` asks for it, the real one."""

import gc

import pytest

from minigrad.backends.cupy import driver

from . import cupy_on_numpy, host
from .failures import captures_succeed

_KEPT = 1 << 28  # bytes that tests may leave behind


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory):
    """Return a stand-in that keeps what it has compiled."""
    if host.COMPILER is None:
        pytest.skip("g++, which compiles kernels for the processor, is not installed")
    return host.Host(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def stand_in(compiled_kernels, monkeypatch):
    """Return the stand-in as it was at first, but for what it has compiled; CuPy is the one on NumPy's memory."""
    compiled_kernels.reset()
    cupy_on_numpy.install(monkeypatch)
    yield compiled_kernels
    compiled_kernels.reset()
    if cupy_on_numpy.POOL.used() > _KEPT:  # programs are cycles, and Python counts objects, not bytes
        gc.collect()


@pytest.fixture
def on_stand_in(stand_in, monkeypatch):
    """Make ``backend="cupy"`` mean the stand-in."""
    monkeypatch.setattr(driver, "current", lambda: stand_in)
    return stand_in


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Return the stand-in, and the GPU where there is one; a refused capture fails the test."""
    found = request.getfixturevalue("stand_in" if request.param == "stand-in" else "gpu")
    with captures_succeed(found):
        yield found


@pytest.fixture
def on_device(device, monkeypatch):
    """Make ``backend="cupy"`` mean the stand-in, and the GPU where there is one."""
    monkeypatch.setattr(driver, "current", lambda: device)
    return device


@pytest.fixture(scope="session")
def gpu():
    """Return the GPU; skip where there is none."""
    if why := driver.missing():
        pytest.skip(why)
    return driver.current()
