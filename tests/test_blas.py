"""NumPy's BLAS: functions that do not multiply, and builds without one."""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad import blas


def idle():
    """Return a function that does nothing, and its address."""
    function = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda *_: None)
    return function, ctypes.cast(function, ctypes.c_void_p).value


@pytest.mark.parametrize("wrong", ["sgemv", "dgemm", "threads"])
def test_functions_that_do_not_multiply_are_refused(wrong):
    found, why = blas.find()
    if found is None:
        pytest.skip(why)
    f4 = np.dtype(np.float32)
    gemm, gemv = found.functions["sgemm"], found.functions["sgemv"]
    assert blas.works(gemm, gemv, f4, found.bits)
    _kept, address = idle()
    gemms = {"sgemv": (gemm, address), "dgemm": (address, gemv), "threads": (address, address)}
    assert not blas.works(*gemms[wrong], f4, found.bits)


def test_openblas_tells_its_version_and_others_their_function(monkeypatch):
    if blas.find()[0] is None:
        pytest.skip(blas.find()[1])
    assert blas.description().startswith("OpenBLAS ") == blas.can_limit()
    blas.description.cache_clear()
    monkeypatch.setattr(blas, "_SPELLINGS", ())
    assert blas.description() == f"{blas.find()[1]} of NumPy {np.__version__}"
    blas.description.cache_clear()


def test_openblas_tells_the_kernels_that_a_process_asked_for():
    if not blas.can_limit():
        pytest.skip("no OpenBLAS")
    code = "from minigrad import blas; print(blas.has_avx512(), blas._openblas_text('config'))"  # the CPU may run none
    for kernels, wide in (("Haswell", "False"), ("SkylakeX", "True")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env={**os.environ, "OPENBLAS_CORETYPE": kernels})
        if kernels in done.stdout:  # builds may lack them, and the CPU too
            assert done.stdout.split()[0] == wide


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


def test_functions_that_do_not_solve_are_refused():
    found, why = blas.find()
    if found is None:
        pytest.skip(why)
    _kept, address = idle()
    for wrong in ("strsm", "dtrsv"):
        dtype = np.dtype(f"f{4 if wrong[0] == 's' else 8}")
        assert blas._solves(found, dtype)
        assert not blas._solves(blas.Blas({**found.functions, wrong: address}, found.bits), dtype)


@pytest.mark.parametrize("n", [1, 2, 40])
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("lower", [False, True])
def test_triangular_systems_of_any_layout(n, k, dtype, lower):
    found, why = blas.find()
    if found is None:
        pytest.skip(why)
    rng = np.random.default_rng(n)
    a = (rng.normal(size=(3, n + 2, 2 * n)) + n).astype(dtype)[:, :n, :2 * n:2]
    a = a + 3 * n * np.eye(n, dtype=dtype)
    wide = np.zeros((3, n, 2 * n), dtype)
    wide[:, :, ::2] = a
    b = rng.normal(size=(3, n, k)).astype(dtype)
    want = np.linalg.solve(np.tril(a) if lower else np.triu(a), b)
    repeated = np.broadcast_to(a[:1], a.shape)
    turned = np.swapaxes(np.ascontiguousarray(np.swapaxes(a, 1, 2)), 1, 2)
    for matrix in (a, turned, wide[:, :, ::2], a[::-1][::-1], np.asfortranarray(a)):
        np.testing.assert_allclose(blas.solve_triangular(found, matrix, b, lower), want, rtol=1e-4 if dtype == "f4" else
                                   1e-12)
    have = blas.solve_triangular(found, repeated, b, lower)
    np.testing.assert_array_equal(have[0], blas.solve_triangular(found, a, b, lower)[0])
    flat = np.broadcast_to(np.full((1, 1), 2, dtype), (n, n))
    np.testing.assert_allclose(blas.solve_triangular(found, flat, b[0], lower), np.linalg.solve(
        np.tril(flat) if lower else np.triu(flat), b[0]), rtol=1e-4 if dtype == "f4" else 1e-12, atol=1e-6)


def blas_threads():
    functions = blas._thread_functions()
    if functions is None:
        pytest.skip("NumPy's BLAS is no OpenBLAS")
    return functions


def test_threads_are_limited_while_a_block_runs():
    get, put = blas_threads()
    before = get()
    try:
        put(3)
        with contextlib.suppress(KeyError), blas.limited(1):
            assert get() == 1
            with blas.limited(1):
                pass
            assert get() == 1, "an inner block does not end the limit"
            raise KeyError
        assert get() == 3
        with blas.limited(8):
            assert get() == 3, "a limit does not raise the number"
    finally:
        put(before)


def test_blocks_of_threads_that_overlap():
    get, put = blas_threads()
    before, entered, left = get(), threading.Event(), threading.Event()

    def first():
        with blas.limited(1):
            entered.set()
            assert left.wait(120)

    try:
        put(3)
        thread = threading.Thread(target=first)
        thread.start()
        assert entered.wait(120)
        with blas.limited(1):
            left.set()
            thread.join()
            assert get() == 1, "the last block sets the number back"
        assert get() == 3
    finally:
        put(before)


def test_the_least_limit_of_blocks_holds():
    get, put = blas_threads()
    before = get()
    try:
        put(4)
        with blas.limited(3):
            assert get() == 3
            with blas.limited(1):
                assert get() == 1
                with blas.limited(2):
                    assert get() == 1
            assert get() == 3
        assert get() == 4
    finally:
        put(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_is_not_limited_by_threads_that_it_does_not_have():
    get, put = blas_threads()
    before, entered, left = get(), threading.Event(), threading.Event()

    def other():
        with blas.limited(1):
            entered.set()
            assert left.wait(120)

    def numbers():
        with blas.limited(2):
            child = os.fork()
            if child == 0:
                inside = get()
        if child == 0:
            os._exit(10 * inside + get())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    try:
        put(3)
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(120)
        assert numbers() == 23
        assert get() == 1
        left.set()
        thread.join()
        assert get() == 3
    finally:
        put(before)


def test_a_blas_without_such_functions_is_left_alone(monkeypatch):
    monkeypatch.setattr(blas, "_thread_functions", lambda: None)
    with blas.limited(1) as nothing:
        assert nothing is None
