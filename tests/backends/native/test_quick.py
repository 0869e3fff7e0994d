"""Quick code: kernels that run before the optimizer has seen them, with the same bits."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES
from tests import checks

pytest.importorskip("llvmlite")

from minigrad.backends import code_cache
from minigrad.backends.native import program as native
from minigrad.backends.native.runtime import background, jit, warmup

W, X = np.linspace(-1.0, 1.5, 5), np.linspace(-2.0, 3.0, 35).reshape(7, 5)
STRANGE = (np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-40, 3e38)
KERNELS = {name: prim for name, prim in sorted(PRIMITIVES.items()) if prim.kind in ("elementwise", "reduce")}


def loss(w, x):
    return np.sum(np.tanh(x * w) ** 2)


def by_hand(w, x):
    h = np.tanh(x * w)
    return np.mean(2 * h * (1 - h * h) * x, 0)


def step(tier="quick"):
    return mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))), backend="native", tier=tier)


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """The jobs of the background, which the tests do, and an empty cache."""
    jobs = []
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(background.BUILDER, "add", jobs.append)
    return jobs


@pytest.fixture
def levels(monkeypatch):
    """The optimization level of each compiled module."""
    monkeypatch.setattr(warmup, "start", lambda: None)  # it compiles a module of its own
    levels, tools = [], jit._tools
    monkeypatch.setattr(jit, "_tools", lambda target, level: (levels.append(level), tools(target, level))[1])
    return levels


def strange(array):
    """Return the array with numbers of every kind among its own."""
    array = np.array(array)
    if array.dtype.kind == "f" and array.size:
        array.flat[::2] = np.resize(STRANGE, array.flat[::2].shape)
    return array


def bits(arrays):
    """Return the bits of arrays, with one NaN for all: signs of NaN depend on the order of operands."""
    return [np.where(x != x, np.array(np.nan, x.dtype), x).tobytes() if x.dtype.kind == "f" else x.tobytes()
            for x in arrays]


@pytest.mark.parametrize("name", KERNELS)
def test_quick_and_optimized_code_have_equal_bits(name, jobs):
    prim, dtype = KERNELS[name], (np.float32, np.float64)[len(name) % 2]  # each of both for half of the primitives
    sample = prim.samples()[0]
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in map(np.asarray, sample.arrays)]
    program = native.Program(checks.program(prim, arrays, sample.params), quick=True)
    sets = [arrays, [strange(a) for a in arrays]]
    quick = [bits(program(each, {})) for each in sets]
    program.finish()
    assert [bits(program(each, {})) for each in sets] == quick


def test_the_first_answer_runs_quick_code_and_later_ones_optimized_code(jobs, levels):
    quick = step()
    first = quick(W, X)
    np.testing.assert_allclose(first, by_hand(W, X))
    assert set(levels) == {jit._QUICK}
    (job,) = jobs
    program = quick.entries[0].program
    (old,) = (bound.table[:, 0].tolist() for pool in program._pools.values() for bound in pool)
    kept = len(code_cache.entries(code_cache.directory()))
    job()
    assert levels[-1] == jit._LEVEL
    assert len(code_cache.entries(code_cache.directory())) == kept + 1
    assert quick(W, X).tobytes() == first.tobytes()
    (new,) = (bound.table[:, 0].tolist() for pool in program._pools.values() for bound in pool)
    assert set(old).isdisjoint(new)
    again = step()
    assert again(W, X).tobytes() == first.tobytes()
    assert len(jobs) == 1  # the cache had the code


def test_sizes_with_much_work_wait_for_optimized_code(jobs, levels, monkeypatch):
    quick = step()
    quick(W, X)
    assert jit._LEVEL not in levels
    monkeypatch.setattr(native, "QUICK", 1000)
    quick(W, X[:1])
    assert jit._LEVEL not in levels
    np.testing.assert_allclose(quick(W, np.tile(X, (100, 1))), by_hand(W, X))
    assert levels[-1] == jit._LEVEL
    for job in jobs:
        job()
    assert levels.count(jit._LEVEL) == 1


def test_programs_traced_with_much_work_are_optimized_at_once(jobs, levels, monkeypatch):
    monkeypatch.setattr(native, "QUICK", 10)
    np.testing.assert_allclose(step()(W, X), by_hand(W, X))
    assert jit._LEVEL in levels
    assert not jobs


@pytest.mark.parametrize("tier", ["final", "early"])
def test_other_tiers_have_no_quick_code(tier, jobs, levels):
    compiled = step(tier)
    np.testing.assert_allclose(compiled(W, X), by_hand(W, X))
    for job in jobs:
        job()
    np.testing.assert_allclose(compiled(W, X), by_hand(W, X))
    assert jit._LEVEL in levels
    assert not compiled.entries[0].program.__dict__.get("_quick")


def test_threads_call_a_program_while_its_code_is_exchanged(jobs):
    quick = step()
    expected, results = quick(W, X).tobytes(), []
    begun = threading.Barrier(4)

    def work():
        begun.wait(60)
        results.extend(quick(W, X[:n]).tobytes() == expected for n in [7, 7, 7] * 100)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    for job in jobs:
        job()
    for thread in threads:
        thread.join()
    assert results == [True] * 900


EXIT = """
import threading
import numpy as np
import minigrad as mg
from minigrad.backends.native.runtime import jit

emit, inside = jit._emit, threading.Event()

def signals(text, target):
    if threading.current_thread().name == "minigrad-build":
        inside.set()
    return emit(text, target)

jit._emit = signals
step = mg.compile(lambda x: np.tanh(x) + 1, backend="native", tier="quick")
step(np.ones(3))
assert inside.wait(60)
"""


def test_the_end_of_the_process_waits_until_the_cache_has_the_code(tmp_path):
    done = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(code_cache.entries(tmp_path)) == 3  # the kernel, the pool and the runner


LATE = """
import atexit
import threading
import time
import numpy as np
import minigrad as mg

atexit.register(lambda: print(step(np.ones(2)).tolist(), step(np.ones(3000))[-1],
                              mg.compile(lambda x: np.exp(x) + 1, backend="native")(np.zeros(2)).tolist()))
from minigrad.backends.native import program
from minigrad.backends.native.runtime import jit

emit, inside = jit._emit, threading.Event()

def waits(text, target):
    if threading.current_thread().name == "minigrad-build":
        inside.set()
        while not jit.ending():
            time.sleep(0.01)
    return emit(text, target)

jit._emit = waits
step = mg.compile(mg.vmap(lambda x: x * x + x), backend="native", tier="quick")
step(np.ones(3))
program.QUICK = 1000
assert inside.wait(60)
"""


def test_functions_run_and_compile_at_the_exit_while_the_background_waits(tmp_path):
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2.0, 2.0] 2.0 [2.0, 2.0]\n", "")
