"""The thread that builds programs in the background, at forks and at the end of the interpreter."""

import os
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("llvmlite")

from minigrad.backends.native.runtime import jit
from minigrad.backends.native.runtime.background import Builder


def test_jobs_run_in_order_on_one_thread():
    builder, done, threads = Builder(), [], set()
    last = threading.Event()
    for k in range(5):
        builder.add(lambda k=k: (done.append(k), threads.add(threading.current_thread())))
    builder.add(last.set)
    assert last.wait(60)
    assert done == list(range(5))
    assert threading.main_thread() not in threads


def test_a_fork_waits_for_one_job():
    builder, done, begun, go = Builder(), [], threading.Event(), threading.Event()

    def work(k):
        begun.set()
        go.wait()
        done.append(k)

    def start():
        while jit.turn.acquire(blocking=False):  # until the other thread waits
            jit.turn.release()
            time.sleep(0.001)
        go.set()

    for k in range(20):
        builder.add(lambda k=k: work(k))
    assert begun.wait(60)
    thread = builder._thread
    threading.Thread(target=start).start()
    with jit._at_rest():
        assert done == [0]
    thread.join()
    assert done == list(range(20))


SETUP = """
import os, sys, threading, time
import numpy as np
import minigrad as mg
from minigrad import backends
from minigrad.backends.native.runtime.background import BUILDER

def loss(w, x):
    return np.sum(np.tanh(x * w) ** 2)

def settle():
    while (thread := BUILDER._thread) is not None and thread.is_alive():  # a child has none of its parent's threads
        thread.join()

kind = type(backends.get("native"))
build, go, begun = kind._machine_code, threading.Event(), threading.Event()

def waits(backend, graph, quick):
    begun.set()
    go.wait()
    return build(backend, graph, quick)

kind._machine_code = waits
w, X = np.ones(3), np.arange(12.0).reshape(4, 3)
steps = [mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))), tier="early", backend="native") for _ in range(2)]
expected = steps[0](w, X)
assert begun.wait(60)
steps[1](w, X)
"""

FORK = SETUP + """
threading.Timer(0.3, go.set).start()  # the fork waits for the first build
child = os.fork()
if child == 0:
    settle()
    assert "define" in steps[1].llvm
    assert all(np.allclose(step(w, X), expected) for step in steps)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
settle()
print("define" in steps[0].llvm, "define" in steps[1].llvm)
"""

EXIT = SETUP + """
print("the end")
"""

FORK_AT_THE_END = """
import atexit, os

def fork():
    go.set()  # LLVM is closed by now
    child = os.fork()
    if child == 0:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

atexit.register(fork)  # runs after the functions of packages that are imported later
""" + SETUP

EXIT_IN_LLVM = SETUP + """
from minigrad.backends.native.runtime import jit
emit, inside = jit._emit, threading.Event()

def signals(text, target):
    inside.set()
    return emit(text, target)

jit._emit = signals
go.set()
assert inside.wait(60)
print("the end")
"""


def run(script, folder):
    forks = "ignore:This process:DeprecationWarning"  # of Python 3.12, where the process has threads
    return subprocess.run([sys.executable, "-W", forks, "-c", script], capture_output=True, text=True, check=False,
                          timeout=300, env={**os.environ, "MINIGRAD_CACHE_DIR": str(folder)})


def test_a_forked_child_builds_what_is_left(tmp_path):
    done = run(FORK, tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["7", "True", "True"]), done.stderr


@pytest.mark.parametrize("script", [EXIT, EXIT_IN_LLVM], ids=["before LLVM", "within LLVM"])
def test_the_process_ends_while_a_program_is_built(script, tmp_path):
    done = run(script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_a_fork_at_the_end_does_not_wait_for_a_program_that_is_never_built(tmp_path):
    done = run(FORK_AT_THE_END, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
