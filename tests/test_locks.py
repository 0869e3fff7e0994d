"""Locks: a child keeps those that its own thread holds, finds the others open, and can import what others were at."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minigrad.locks import Lock, Setting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_finds_locks_of_other_threads_open():
    theirs, mine, held, go = Lock(), Lock(), threading.Event(), threading.Event()

    def hold():
        with theirs:
            held.set()
            assert go.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(120)
    with mine:
        child = os.fork()
        if not child:
            other = threading.Thread(target=mine.__enter__, daemon=True)
            other.start()
            other.join(0.2)
            os._exit(0 if theirs.acquire(blocking=False) and other.is_alive() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert not theirs.acquire(blocking=False)
    go.set()
    thread.join()


def test_no_step_of_a_lock_runs_python_where_an_interrupt_could_come():
    lock, steps = Lock(), []
    sys.setprofile(lambda frame, event, arg: steps.append(event))
    with lock:
        pass
    sys.setprofile(None)
    assert "call" not in steps


def test_interrupted_change_of_a_setting_is_undone():
    values, interrupts = ["usual"], [KeyboardInterrupt]

    def change():
        values[0] = "changed"
        if interrupts:
            raise interrupts.pop()

    def restore():
        usual = values[0]
        return lambda: values.__setitem__(0, usual)

    setting = Setting(change, restore)
    with pytest.raises(KeyboardInterrupt), setting.changed():
        pass
    assert values == ["usual"]
    with setting.changed():
        assert values == ["changed"]
    assert values == ["usual"]
    dropped = setting.changed()
    dropped.__enter__()
    del dropped
    assert values == ["usual"]


def run(script, *args):
    """Run a script in a process of its own, and return the text of its errors."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, *args], timeout=300, text=True,
                          stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    sys.stderr.write(done.stderr)
    done.check_returncode()
    return done.stderr


FORKS = """
import os, signal, sys, threading, time
import numpy as np
import minigrad as mg

name, began, parent = sys.argv[1], threading.Event(), os.getpid()

class Slow:  # the first to be asked for a module, which Python has locked by then
    def find_spec(self, wanted, path=None, target=None):
        if wanted == name and os.getpid() == parent:
            began.set()
            time.sleep(0.5)

def use():
    x = np.ones((3, 3))
    list(mg.DataLoader((x,), batch_size=2, shuffle=True))
    mg.compile(lambda x: np.einsum("ij,jk,kl->il", x, x, x) * mg.special.erfinv(x / 2))(x)
    mg.compare

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=use)
thread.start()
assert began.wait(120)
child = os.fork()
if not child:
    signal.alarm(120)
    use()
    os._exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize(("name", "needs"), [
    ("minigrad.backends.native.runtime.warmup", "llvmlite"), ("minigrad.backends.native.program", "llvmlite"),
    ("opt_einsum", "opt_einsum"), ("scipy.special", "scipy"), ("numpy.random", "numpy"), ("minigrad.report", "numpy")])
def test_forked_child_completes_import_begun_by_another_thread(name, needs):
    pytest.importorskip(needs)
    run(FORKS, name)


GUARDS = """
import os, threading, time
from minigrad.locks import hold_at_forks, importing

lock, began = threading.RLock(), threading.Event()

def imports():
    with importing:
        began.set()
        time.sleep(0.5)  # the fork waits by now
        hold_at_forks(lambda: lock)
        lock.acquire()
    time.sleep(0.5)
    lock.release()

thread = threading.Thread(target=imports)
thread.start()
assert began.wait(120)
child = os.fork()
if not child:
    os._exit(not lock.acquire(blocking=False))
assert lock.acquire(timeout=120)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_fork_enters_guards_of_a_module_that_another_thread_was_importing():
    run(GUARDS)


LOGGING = """
import os, threading, time
import minigrad.locks
import logging

began = threading.Event()

def imports():  # a module that makes a logger
    with minigrad.locks.importing:
        began.set()
        time.sleep(0.5)  # the fork waits by now
        logging.getLogger("its")

thread = threading.Thread(target=imports)
thread.start()
assert began.wait(60)
child = os.fork()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_fork_waits_for_imports_without_the_lock_of_logging():
    run(LOGGING)


INTERRUPTED = """
import os, signal, sys, threading, time
from minigrad.locks import hold_at_forks

signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background ignore it
lock, held = threading.RLock(), threading.Event()
hold_at_forks(lambda: lock)

def hold():
    with lock:
        held.set()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)  # the fork waits by now
        time.sleep(0.5)

thread = threading.Thread(target=hold)
thread.start()
assert held.wait(60)
child = os.fork()
if not child:
    os._exit(not lock.acquire(blocking=False))
assert lock.acquire(timeout=60)
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_interrupted_fork_waits_on_and_tells_the_interrupt():
    assert "KeyboardInterrupt" in run(INTERRUPTED)
