"""The warm-up beside the first trace."""

import threading

import pytest

from minigrad.backends.native.runtime import jit, warmup

pytest.importorskip("llvmlite")

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def test_warmup_loads_in_a_thread(monkeypatch):
    made, done = [], threading.Event()

    def load():
        made.append(threading.current_thread().name)
        done.set()

    monkeypatch.setattr(jit, "warm_up", load)
    warmup.start.__wrapped__()
    assert done.wait(120)
    assert made == ["minigrad-start"]


def test_warmup_failures_are_silent(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(jit, "warm_up", fail)
    warmup._load()
    monkeypatch.setattr(threading.Thread, "start", fail)
    warmup.start.__wrapped__()


def test_warmup_makes_the_tools_of_the_first_kernel(monkeypatch):
    monkeypatch.setattr(jit, "_idle", {})
    warmup._load()
    ((_, level),) = jit._idle
    assert level == jit._LEVEL
    monkeypatch.setattr(jit, "_machine", None)  # no machine is made again
    assert jit._emit("define i64 @f() {\n ret i64 1\n}", jit.host())
