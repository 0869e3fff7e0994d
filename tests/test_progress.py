"""Progress bars in notebooks, on a stand-in of IPython's display."""

import contextlib
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import progress


@pytest.fixture
def shown(monkeypatch):
    """Pretend to be a notebook, and return what its cell shows, message by message."""
    messages = []

    class Bar:
        update = messages.append

    def display(html, display_id):
        messages.append(html)
        return Bar

    package, display_module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display_module.HTML, display_module.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display_module)
    monkeypatch.setattr(progress, "_PAUSE", -1.0)
    return messages


def counts(messages):
    return [tuple(map(int, m.groups())) for text in messages if (m := re.search(r'max="(\d+)" value="(\d+)"', text))]


def test_a_bar_counts_and_stays(shown):
    with progress.notebook_bar("<reading>", 2) as update:
        update(1)
        update(2)
    assert counts(shown) == [(2, 0), (2, 1), (2, 2)]
    assert all("<b>&lt;reading&gt;</b>" in text for text in shown)


def test_messages_are_spaced_but_the_last_is_shown(shown, monkeypatch):
    monkeypatch.setattr(progress, "_PAUSE", 1e9)
    with progress.notebook_bar("reading", 1000) as update:
        for count in range(1, 1001):
            update(count)
    assert counts(shown) == [(1000, 0), (1000, 1000)]


def test_loaders_and_reports_have_bars_in_notebooks(shown):
    assert len(list(mg.DataLoader(np.arange(7), batch_size=3, progress="reading"))) == 3
    assert counts(shown) == [(3, 0), (3, 1), (3, 2), (3, 3)]
    assert re.search(r"3/3 [\d,]+ examples/s$", shown[-1])
    shown.clear()
    with ThreadPoolExecutor(1) as executor:
        f = mg.mean_loss(lambda x: x**2)
        assert mg.distribute(f, executor, 4, progress="adding")(np.arange(6.0)) == pytest.approx(55 / 6)
    assert counts(shown) == [(4, k) for k in range(5)]
    assert "<b>adding</b> 4/4" in shown[-1]
    shown.clear()
    mg.compare(lambda w, x: (w * x) ** 2, 1.0, np.arange(3.0), repeats=1)
    done = [count for _, count in counts(shown)]
    assert done == sorted(done)
    assert len(done) > 3
    assert shown[-1] == ""  # it disappears


@pytest.mark.parametrize("failing", [False, True])
def test_bars_in_a_terminal_tell_the_rate(capsys, monkeypatch, failing):
    now = [10.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    with contextlib.suppress(ValueError), progress.examples_bar("reading", 2) as update:
        now[0] += 2.0
        update(1, 3000)
        if failing:
            raise ValueError
        update(2, 6000)
    out = capsys.readouterr().out
    assert "reading" in out
    assert ("50%" if failing else "100%") in out
    assert ("1,500 examples/s" if failing else "3,000 examples/s") in out


def test_there_is_no_notebook_in_a_terminal(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not progress.in_notebook()
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace()  # IPython in a terminal has no kernel
    monkeypatch.setitem(sys.modules, "IPython", package)
    assert not progress.in_notebook()


def test_closed_streams_are_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress.is_terminal(sys.stderr)
    report = mg.compare(lambda w, x: np.sum(w * x), np.ones(3), np.ones((2, 3)), rows=["vmapped"], repeats=1)
    assert report.rows
