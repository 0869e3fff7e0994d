"""The thread pool: every item once, limits, nested calls, forks, and the interpreter's end."""

import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from minigrad.backends.native.runtime import jit, pool, threads

pytest.importorskip("llvmlite")

from tests.backends.native.machine_code import TARGETS, assembly, compile_ir

from .pool_code import Code

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))
ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("items", [0, 1, 2, 3, 7, 1000])
def test_each_item_runs_once(code, n, items):
    threads.set_num_threads(n)
    for _ in range(20):
        table = np.zeros((items + 1, 2), np.int64)
        code.counting(table, items, 5)
        assert (table[:items, 0] == 5).all()
        assert table[items].tolist() == [0, 0]
        assert ((table[:, 1] >= 0) & (table[:, 1] < n)).all()


def test_negative_item_counts_run_nothing(code):
    table = np.full((4, 2), 7)
    code.counting(table, -3, 1)
    assert (table == 7).all()


@pytest.mark.parametrize("n", [2, 5])
def test_concurrent_blocks_have_different_threads(code, n):
    threads.set_num_threads(n)
    words = np.zeros(1026, np.int64)
    code.claiming(words, 50, 200)
    assert words[1024] == 0
    assert words[1025] == 50 * 200


def test_the_check_of_threads_detects_a_clash(code):
    words = np.zeros(1026, np.int64)
    words[0] = 1
    threads.set_num_threads(1)
    code.claiming(words, 1, 1)
    assert words[1024] == 1


def test_several_threads_work(code):
    """Given time, the second thread takes part: in one of many long jobs."""
    threads.set_num_threads(2)
    table = np.zeros((200_000, 2), np.int64)
    for _ in range(500):
        code.counting(table, len(table), 1)
        if table[:, 1].any():
            return
    raise AssertionError("the caller did everything itself, 500 times")


def test_calls_are_limited_to_their_threads(code):
    threads.set_num_threads(8)
    for _ in range(50):
        words = np.zeros(1026, np.int64)
        words[3:1024] = 1  # a block of thread 3 or more would clash
        code.upto(words, 300, 3)
        assert words[1024] == 0
        assert words[1025] == 300


def test_nested_calls(code):
    threads.set_num_threads(3)
    tables = np.zeros((100, 8, 2), np.int64)
    code.nesting(tables, 100, 30)
    assert (tables[..., 0] == 30).all()
    assert (tables[..., 1] == 0).all(), "an inner call runs alone, as thread 0"


def test_many_python_threads(code):
    threads.set_num_threads(3)
    tables = [np.zeros((9, 2), np.int64) for _ in range(6)]
    callers = [threading.Thread(target=lambda t=t: [code.counting(t, 9, 50) for _ in range(200)]) for t in tables]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
        assert not caller.is_alive()
    assert all((t[:, 0] == 10_000).all() for t in tables)


def test_jobs_after_workers_sleep(code):
    threads.set_num_threads(4)
    table = np.zeros((50, 2), np.int64)
    for k in range(30):
        time.sleep(0.002 * (k % 3))  # the workers are asleep, or about to be
        code.counting(table, 50, 1)
    assert (table[:, 0] == 30).all()


def test_the_number_of_threads_changes_while_jobs_run(code):
    table = np.zeros((64, 2), np.int64)
    caller = threading.Thread(target=lambda: [code.counting(table, 64, 10) for _ in range(500)])
    caller.start()
    k = 0
    while caller.is_alive():
        k += 1
        threads.set_num_threads(1 + k % 6)
    assert (table[:, 0] == 5000).all()


def in_child(action):
    """Fork, run `action` in the child, and return what `wait` said; a child that hangs is killed, which it says too."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, 9)
    return os.waitpid(child, 0)[1]


def counts(code, n=4):
    threads.set_num_threads(n)
    table = np.zeros((100, 2), np.int64)
    for _ in range(20):
        code.counting(table, 100, 5)
    return (table[:, 0] == 100).all()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_children_have_their_own_pool(code):
    assert counts(code)
    assert in_child(lambda: counts(code) and in_child(lambda: counts(code)) == 0) == 0
    assert counts(code)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_during_a_job(code):
    threads.set_num_threads(4)
    stop = threading.Event()
    words = np.zeros(1026, np.int64)

    def work():
        while not stop.is_set():
            code.claiming(words, 100, 20)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert [in_child(lambda: counts(code)) for _ in range(15)] == [0] * 15
    finally:
        stop.set()
        worker.join(60)
    assert words[1024] == 0
    assert counts(code)


SET = 128  # bytes of a set of CPUs


class Affinity:
    """Stand-ins of the C library's functions of CPUs: this thread is on CPU 1, and threads may use some CPUs."""

    def __init__(self, cpus):
        self.cpus, self.here, self.given = cpus, {}, []  # by thread, its CPUs now; all sets in their order
        size, address = ctypes.c_size_t, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(ctypes.c_int, size, size, address)
        self.functions = {"sched_getcpu": ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1),
                          "pthread_getaffinity_np": kind(self.get), "pthread_setaffinity_np": kind(self.put)}

    def get(self, thread, size, address):
        ctypes.memmove(address, sum(1 << i for i in self.here.get(thread, self.cpus)).to_bytes(SET, "little"), SET)
        return 0

    def put(self, thread, size, address):
        bits = int.from_bytes(ctypes.string_at(address, SET), "little")
        given = {i for i in range(8 * SET) if bits >> i & 1}
        self.given.append((thread, threading.get_native_id(), given))
        self.here[thread] = given  # last: who sees it sees the list whole
        return 0

    def pool(self):
        """Return a pool of its own that calls them."""
        functions = {name: ctypes.cast(f, ctypes.c_void_p).value for name, f in self.functions.items()}
        library = jit.load([compile_ir(pool.text(jit.host()))], functions, keep=True)
        ctypes.CFUNCTYPE(None)(library.address("mg_pool_reset"))()
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(library.address("mg_pool_set_threads"))(2)
        return Code({"mg_parallel": library.address("mg_parallel")})


@pytest.mark.skipif(sys.platform != "linux", reason="no sets of CPUs")
@pytest.mark.parametrize("cpus", [{0, 1, 2}, {1, 70, 1000}, {0, 2}, {1}])
def test_threads_wake_off_the_cpu_of_the_thread_that_wakes_them(cpus):
    affinity = Affinity(cpus)
    code, table, words = affinity.pool(), np.zeros((50, 2), np.int64), np.zeros(1026, np.int64)
    moved = 1 in cpus and cpus != {1}
    jobs, deadline = 0, time.monotonic() + 60
    while jobs < 10 or (moved and len(affinity.given) < 2 and time.monotonic() < deadline):
        time.sleep(0.01)  # the worker sleeps, later on a busy machine
        code.counting(table, 50, 1)
        code.claiming(words, 200, 5)
        jobs += 1
    assert (table[:, 0] == jobs).all()
    deadline = time.monotonic() + 60
    while any(left != cpus for left in affinity.here.values()) and time.monotonic() < deadline:
        time.sleep(0.01)  # a worker that has just been called
    moves = affinity.given
    if not moved:
        assert not moves, "this CPU is not among them, or none is left without it"
        return
    assert len(moves) >= 2, "a worker slept"
    for thread, _, _ in moves:
        own = [(by, given) for who, by, given in moves if who == thread]
        assert [given for _, given in own] == [cpus - {1}, cpus] * (len(own) // 2)
        assert all(one[0] != other[0] for one, other in pairwise(own)), "one thread sets, and the other puts back"


@pytest.mark.skipif(sys.platform != "linux", reason="no sets of CPUs")
def test_threads_keep_their_cpus(code):
    def sets():
        return [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")]

    before, threads_before = os.sched_getaffinity(0), sets()
    assert all(cpus == before for cpus in threads_before)
    threads.set_num_threads(4)
    words = np.zeros(1026, np.int64)
    for _ in range(30):
        time.sleep(0.002)
        code.claiming(words, 100, 10)
    deadline = time.monotonic() + 60
    while any(cpus != before for cpus in sets()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(cpus == before for cpus in sets())
    assert len(sets()) > len(threads_before) or len(threads_before) >= 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_during_compilation(code):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            compile_ir("define i64 @f(i64 %x) {\n ret i64 %x\n}")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert [in_child(lambda: Code() is not None) for _ in range(5)] == [0] * 5
    finally:
        stop.set()
        worker.join(60)

END = """
import sys, threading, time
import numpy as np
from tests.backends.native.runtime.pool_code import Code
from minigrad.backends.native.runtime import threads
threads.set_num_threads(4)
code, table = Code(), np.zeros((100, 2), np.int64)
code.counting(table, 100, 10)
{more}
print("the end")
"""


@pytest.mark.parametrize("more", [
    "", "time.sleep(0.1)", "del code", "sys.stdout.flush(); code.counting(table, 100, 1000)",
    "threading.Thread(target=lambda: [code.counting(table, 100, 10) for _ in range(10**9)], daemon=True).start()"])
def test_interpreter_exit_with_workers(more):
    """With workers that wait, that sleep, that work, and with the code that they run gone from Python's view."""
    done = subprocess.run([sys.executable, "-c", END.format(more=more)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


@pytest.mark.parametrize("name", TARGETS)
def test_the_pool_compiles_for_other_machines(name):
    other = TARGETS[name]
    text = assembly(pool.text(other), other)
    pause, atomic = ("pause", "lock") if other.arch == "x86_64" else ("isb", "ldaddal|ldaxr|stlxr|cas|ldadd")
    assert re.search(rf"^\s+{pause}\b", text, re.MULTILINE)
    assert re.search(atomic, text)
    assert ("_mg_parallel:" in text) == ("apple" in other.triple)
