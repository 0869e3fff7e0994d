"""The warm-up beside the first trace."""

import threading

import pytest

from minigrad.backends.native.runtime import jit, threads, warmup

pytest.importorskip("llvmlite")

pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def test_warmup_loads_in_a_thread(monkeypatch):
    made, done = [], threading.Event()
    monkeypatch.setattr(threads, "symbols", lambda: made.append(threading.current_thread().name))
    monkeypatch.setattr(warmup.runner, "runner", done.set)
    warmup.start.__wrapped__()
    assert done.wait(10)
    assert made == ["minigrad-start"]


def test_warmup_failures_are_silent(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(threads, "symbols", fail)
    warmup._load()
    monkeypatch.setattr(threading.Thread, "start", fail)
    warmup.start.__wrapped__()
