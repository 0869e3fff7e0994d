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

    monkeypatch.setattr(jit, "host", load)
    warmup.start.__wrapped__()
    assert done.wait(120)
    assert made == ["minigrad-start"]


def test_warmup_failures_are_silent(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(jit, "host", fail)
    warmup._load()
    monkeypatch.setattr(threading.Thread, "start", fail)
    warmup.start.__wrapped__()
