"""NumPy's BLAS: functions that do not multiply, and builds without one."""

import ctypes

import numpy as np
import pytest

pytest.importorskip("llvmlite")


from minigrad.backends.native.runtime import blas, jit

if jit.available():
    pytest.skip(jit.available(), allow_module_level=True)


@pytest.mark.parametrize("wrong", ["sgemv", "dgemm", "threads"])
def test_functions_that_do_not_multiply_are_refused(wrong):
    found, why = blas.find()
    if found is None:
        pytest.skip(why)
    f4 = np.dtype(np.float32)
    gemm, gemv = found.functions["sgemm"], found.functions["sgemv"]
    assert blas.works(gemm, gemv, f4, found.bits)

    def nothing(*_):
        return None

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    idle = kind(nothing)
    address = ctypes.cast(idle, ctypes.c_void_p).value
    gemms = {"sgemv": (gemm, address), "dgemm": (address, gemv), "threads": (address, address)}
    assert not blas.works(*gemms[wrong], f4, found.bits)


def test_missing_blas_has_a_reason(monkeypatch):
    monkeypatch.setattr(blas, "_SPELLINGS", (("no_such_", "_blas", 32),))
    blas.find.cache_clear()
    try:
        found, why = blas.find()
        assert found is None
        assert "NumPy" in why
        assert blas.symbols() == {}
    finally:
        monkeypatch.undo()
        blas.find.cache_clear()
