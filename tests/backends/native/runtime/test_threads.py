"""The number of threads: set, by the environment, by threadpoolctl."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.backends.native.runtime import cpus, jit, threads

pytest.importorskip("llvmlite")

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))

ROOT = Path(__file__).resolve().parents[4]


def test_set_num_threads():
    for n in (1, 5, np.int64(2)):
        threads.set_num_threads(n)
        assert threads.get_num_threads() == n
    threads.set_num_threads(10**9)
    assert threads.get_num_threads() == 1024
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least"):
            threads.set_num_threads(wrong)
    for wrong in (1.5, "2", None, True):
        with pytest.raises(TypeError, match="whole number"):
            threads.set_num_threads(wrong)


@pytest.mark.parametrize(("said", "n"), [("3", "3"), (" 7 ", "7"), ("", str(cpus.usable_cpus()))])
def test_threads_from_the_environment(said, n):
    script = "from minigrad.backends.native.runtime.threads import get_num_threads; print(get_num_threads())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "MINIGRAD_NUM_THREADS": said})
    assert done.stdout.strip() == n


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5"])
def test_invalid_thread_counts_in_the_environment(said, monkeypatch):
    monkeypatch.setenv("MINIGRAD_NUM_THREADS", said)
    with pytest.raises(ValueError, match=f"MINIGRAD_NUM_THREADS={said}"):
        threads.default_threads.__wrapped__()


def test_threadpoolctl_limits_the_pool(code):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    threads.set_num_threads(3)
    with threadpoolctl.threadpool_limits(1):
        assert threads.get_num_threads() == 1
    with threadpoolctl.threadpool_limits(2, user_api="minigrad"):
        assert threads.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert threads.get_num_threads() == 3
    assert threads.get_num_threads() == 3
    assert [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "minigrad"] == [3]


FIRST_PROGRAMS = """
import threading
import numpy as np
import minigrad as mg

def compile(k):
    start.wait()
    mg.compile(lambda x: np.sum(np.sin(x) * k), backend="native")(np.ones(1000))

threads = [threading.Thread(target=compile, args=(k,)) for k in range(4)]
start = threading.Barrier(len(threads))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
import threadpoolctl
print(len([c for c in threadpoolctl._ALL_CONTROLLERS if c.user_api == "minigrad"]))
"""


def test_threadpoolctl_learns_of_the_pool_once():
    pytest.importorskip("threadpoolctl")
    done = subprocess.run([sys.executable, "-c", FIRST_PROGRAMS], capture_output=True, text=True, timeout=300,
                          check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "1"
