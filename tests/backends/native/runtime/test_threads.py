"""The thread pool: each item once, whoever calls, however many threads; forks and the interpreter's end."""

import ctypes
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad.backends.native.runtime import cpus, jit, pool, threads, warmup

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))

ROOT = Path(__file__).resolve().parents[4]

# The context of @count is a table: for each item, how often it was done, and by which thread. That of @claim is one
# word for each thread, which must be free when a block of that thread begins, the number of clashes and the number of
# blocks. That of @nest is for each item a context of @count.
CODE = """
declare void @mg_parallel(ptr, ptr, i64, i64)

define void @count(ptr %table, i64 %item, i64 %thread) {
  %at = getelementptr [2 x i64], ptr %table, i64 %item
  %done = load i64, ptr %at
  %more = add i64 %done, 1
  store i64 %more, ptr %at
  %who = getelementptr i64, ptr %at, i64 1
  store i64 %thread, ptr %who
  ret void
}

define void @claim(ptr %words, i64 %item, i64 %thread) {
entry:
  %mine = getelementptr i64, ptr %words, i64 %thread
  %clash = atomicrmw xchg ptr %mine, i64 1 seq_cst
  %clashes = getelementptr i64, ptr %words, i64 1024
  %x = atomicrmw add ptr %clashes, i64 %clash seq_cst
  %blocks = getelementptr i64, ptr %words, i64 1025
  %y = atomicrmw add ptr %blocks, i64 1 seq_cst
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %j = add i64 %i, 1
  store volatile i64 1, ptr %mine
  %go = icmp slt i64 %j, 300
  br i1 %go, label %loop, label %out

out:
  store atomic i64 0, ptr %mine seq_cst, align 8
  ret void
}

define void @nest(ptr %tables, i64 %item, i64 %thread) {
  %table = getelementptr [8 x [2 x i64]], ptr %tables, i64 %item
  call void @mg_parallel(ptr @count, ptr %table, i64 8, i64 1024)
  ret void
}

define void @counting(ptr %table, i64 %items, i64 %times) {
  call void @repeat(ptr @count, ptr %table, i64 %items, i64 %times)
  ret void
}

define void @claiming(ptr %words, i64 %items, i64 %times) {
  call void @repeat(ptr @claim, ptr %words, i64 %items, i64 %times)
  ret void
}

define void @nesting(ptr %tables, i64 %items, i64 %times) {
  call void @repeat(ptr @nest, ptr %tables, i64 %items, i64 %times)
  ret void
}

define internal void @repeat(ptr %block, ptr %context, i64 %items, i64 %times) {
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  call void @mg_parallel(ptr %block, ptr %context, i64 %items, i64 1024)
  %j = add i64 %i, 1
  %go = icmp slt i64 %j, %times
  br i1 %go, label %loop, label %out

out:
  ret void
}

define void @upto(ptr %table, i64 %items, i64 %threads) {
  call void @mg_parallel(ptr @claim, ptr %table, i64 %items, i64 %threads)
  ret void
}
"""


class Code:
    """The functions above: ``f(array, items, times)``."""

    def __init__(self):
        self.library = jit.load([jit.compile_ir(CODE)], threads.symbols())
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        for name in ("counting", "claiming", "nesting", "upto"):
            setattr(self, name, self.of_array(kind(self.library.address(name))))

    @staticmethod
    def of_array(function):
        return lambda array, items, times: function(array.ctypes.data, items, times)


@pytest.fixture(scope="module")
def code():
    return Code()


@pytest.fixture(autouse=True)
def as_before():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("items", [0, 1, 2, 3, 7, 1000])
def test_each_item_is_done_once(code, n, items):
    threads.set_num_threads(n)
    for _ in range(20):
        table = np.zeros((items + 1, 2), np.int64)
        code.counting(table, items, 5)
        assert (table[:items, 0] == 5).all()
        assert table[items].tolist() == [0, 0]
        assert ((table[:, 1] >= 0) & (table[:, 1] < n)).all()


def test_items_less_than_none_are_none(code):
    table = np.full((4, 2), 7)
    code.counting(table, -3, 1)
    assert (table == 7).all()


@pytest.mark.parametrize("n", [2, 5])
def test_no_two_blocks_at_once_have_the_same_thread(code, n):
    threads.set_num_threads(n)
    words = np.zeros(1026, np.int64)
    code.claiming(words, 50, 200)
    assert words[1024] == 0
    assert words[1025] == 50 * 200


def test_a_clash_of_threads_would_be_seen(code):
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


def test_a_call_is_limited_to_the_threads_it_has_room_for(code):
    threads.set_num_threads(8)
    for _ in range(50):
        words = np.zeros(1026, np.int64)
        words[3:1024] = 1  # a block of thread 3 or more would clash
        code.upto(words, 300, 3)
        assert words[1024] == 0
        assert words[1025] == 300


def test_calls_inside_of_calls(code):
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


def test_a_job_after_a_sleep(code):
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


# -- forks, and the end --------------------------------------------------------------------------------------


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
def test_a_forked_child_has_a_pool_of_its_own(code):
    assert counts(code)
    assert in_child(lambda: counts(code) and in_child(lambda: counts(code)) == 0) == 0
    assert counts(code)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_job(code):
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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_compiles(code):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            jit.compile_ir("define i64 @f(i64 %x) {\n ret i64 %x\n}")

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
from tests.backends.native.runtime.test_threads import Code
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
def test_the_interpreter_ends(more):
    """With workers that wait, that sleep, that work, and with the code that they run gone from Python's view."""
    done = subprocess.run([sys.executable, "-c", END.format(more=more)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


@pytest.mark.parametrize("name", jit.TARGETS)
def test_the_pool_compiles_for_other_machines(name):
    other = jit.TARGETS[name]
    text = jit.assembly(pool.text(other), other)
    pause, atomic = ("pause", "lock") if other.arch == "x86_64" else ("isb", "ldaddal|ldaxr|stlxr|cas|ldadd")
    assert re.search(rf"^\s+{pause}\b", text, re.MULTILINE)
    assert re.search(atomic, text)
    assert ("_mg_parallel:" in text) == ("apple" in other.triple)


# -- how many ------------------------------------------------------------------------------------------------


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
def test_the_environment_says_how_many(said, n):
    script = "from minigrad.backends.native.runtime.threads import get_num_threads; print(get_num_threads())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "MINIGRAD_NUM_THREADS": said})
    assert done.stdout.strip() == n


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5"])
def test_what_the_environment_must_not_say(said, monkeypatch):
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


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/cpu/"


@pytest.mark.parametrize(("files", "n"), [
    ({}, None),
    ({V2 + "cpu.max": "max 100000\n"}, None),
    ({V2 + "cpu.max": "200000 100000\n"}, 2),
    ({V2 + "cpu.max": "150000 100000\n"}, 2),
    ({V2 + "cpu.max": "1000 100000\n"}, 1),
    ({V2 + "cpu.max": "rubbish"}, None),
    ({"proc/self/cgroup": "0::/a/b\n", V2 + "a/b/cpu.max": "max 100000\n", V2 + "a/cpu.max": "300000 100000\n"}, 3),
    ({"proc/self/cgroup": "0::/../elsewhere\n", V2 + "cpu.max": "400000 100000\n"}, 4),
    ({V1 + "cpu.cfs_quota_us": "-1\n", V1 + "cpu.cfs_period_us": "100000\n"}, None),
    ({V1 + "cpu.cfs_quota_us": "500000\n", V1 + "cpu.cfs_period_us": "100000\n"}, 5),
    ({"proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/a\n", V1 + "a/cpu.cfs_quota_us": "100000\n",
      V1 + "a/cpu.cfs_period_us": "50000\n", V1 + "m/cpu.cfs_quota_us": "1", V1 + "m/cpu.cfs_period_us": "1"}, 2)])
def test_a_containers_quota(tmp_path, files, n):
    write(tmp_path, files)
    found = cpus.cgroup_cpus(tmp_path)
    assert found == n if n else found > 1000


def test_what_programs_stand_on_is_made_beside_the_first_trace(monkeypatch):
    made, done = [], threading.Event()
    monkeypatch.setattr(threads, "symbols", lambda: made.append(threading.current_thread().name))
    monkeypatch.setattr(warmup.runner, "runner", done.set)
    warmup.start.__wrapped__()
    assert done.wait(10)
    assert made == ["minigrad-start"]


def test_what_cannot_be_made_early_is_left_to_who_needs_it(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(threads, "symbols", fail)
    warmup._load()
    monkeypatch.setattr(threading.Thread, "start", fail)
    warmup.start.__wrapped__()
