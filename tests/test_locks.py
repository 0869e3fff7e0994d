"""Locks: a child keeps those that its own thread holds, and finds the others open."""

import os
import threading

import pytest

from minigrad.locks import Lock


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_finds_locks_of_other_threads_open():
    theirs, mine, held, go = Lock(), Lock(), threading.Event(), threading.Event()

    def hold():
        with theirs:
            held.set()
            assert go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    with mine:
        child = os.fork()
        if not child:
            other = threading.Thread(target=mine.__enter__, daemon=True)
            other.start()
            other.join(0.2)
            os._exit(0 if theirs._lock.acquire(blocking=False) and other.is_alive() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert not theirs._lock.acquire(blocking=False)
    go.set()
    thread.join()
