"""The numbers of a report are right: against NumPy, and against each other."""

import copy
import io
import json
import pickle
import statistics

import numpy as np
import pytest

import minigrad as mg
from minigrad.graph import PRIMITIVES
from minigrad.report import comparison
from tests.testing import broken

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 3)), RNG.normal(size=50)
PARAMS = {"w": RNG.normal(size=3), "b": 0.5}


def loss(params, x, y):
    return (x @ params["w"] + params["b"] - y) ** 2


@pytest.fixture(scope="module")
def report():
    return mg.compare(loss, PARAMS, (X, Y), repeats=3, copies=16, microbatch=7, progress=False)


def test_reported_loss_and_gradient_equal_numpy(report):
    gap = X @ PARAMS["w"] + PARAMS["b"] - Y
    for row in report.rows:
        assert row.loss == pytest.approx(np.mean(gap[:row.examples] ** 2), rel=1e-12)
        assert row.difference < 1e-14
    data = comparison.Data(loss, (PARAMS, X, Y), (None, 0, 0))
    loop = comparison.Variant("loop", data, mg.value_and_grad(loss), 50, "auto")
    loop.build(50)
    _, (b, w) = loop.call(50)
    np.testing.assert_allclose(b, np.mean(2 * gap))
    np.testing.assert_allclose(w, np.mean(2 * gap[:, None] * X, axis=0))


def test_rows(report):
    assert [r.name for r in report.rows] == ["loop", "unrolled", "vmapped", "microbatched"]
    assert [r.examples for r in report.rows] == [50, 16, 50, 50]
    loop, vmapped = report["loop"], report["vmapped"]
    assert loop.speedup == 1
    assert vmapped.time == statistics.median(vmapped.seconds)
    assert len(vmapped.seconds) == 3
    assert vmapped.speedup == pytest.approx(loop.time / vmapped.time)
    assert vmapped.rate == pytest.approx(50 / vmapped.time)
    assert vmapped.nodes == mg.trace(mg.value_and_grad(mg.mean_loss(loss, (None, 0, 0))))(PARAMS, X, Y).count()
    assert "first 16 of 50 examples" in report["unrolled"].note
    assert report["microbatched"].note == "7 at a time, 8 passes, the last of 1"
    assert report.roundoff == np.finfo(float).eps


def test_the_unrolled_graph_has_a_copy_for_each_example():
    few = mg.compare(loss, PARAMS, (X, Y), repeats=1, copies=4, rows=("unrolled",), progress=False)
    more = mg.compare(loss, PARAMS, (X, Y), repeats=1, copies=8, rows=("unrolled",), progress=False)
    assert [r.name for r in few.rows] == ["loop", "unrolled"]
    assert 1.5 < more["unrolled"].nodes / few["unrolled"].nodes < 2.1


def test_a_wrong_variant_shows_in_its_row():
    def cubed(w, x):
        return np.sum(broken.cube(w * x))

    broken.declare(batch=lambda size, mapped, x: PRIMITIVES["broken"](x) * 1.5)
    try:
        report = mg.compare(cubed, PARAMS["w"], (X,), repeats=1, progress=False, copies=2, rows=("unrolled", "vmapped"))
    finally:
        PRIMITIVES.pop(broken.NAME)
    assert report["unrolled"].difference < 1e-14
    assert report["vmapped"].difference == pytest.approx(0.5)
    assert report["vmapped"].loss == pytest.approx(1.5 * report["loop"].loss)


def test_peak_memory_follows_numpy_allocations():
    def wide(w, x):
        return np.sum(np.sort(np.outer(w, x).reshape(-1)))  # 80,000 bytes for each example

    data = RNG.normal(size=(64, 100))
    report = mg.compare(wide, RNG.normal(size=100), (data,), repeats=1, microbatch=4, rows=("vmapped", "microbatched"),
                        progress=False)
    batch, chunk, one = (report[k].peak_bytes for k in ("vmapped", "microbatched", "loop"))
    assert 64 * 80_000 < batch < 12 * 64 * 80_000
    assert 80_000 < one < chunk < batch / 4
    points = report.curves["vmapped"]
    assert [p.examples for p in points] == [1, 2, 4, 8, 16, 32, 64]
    assert 1.5 < points[-1].peak_bytes / points[-2].peak_bytes < 2.1


def test_other_axes_pytrees_and_keyword_choices():
    def scaled(params, example):
        return np.sum(params[0] * example["x"]) * example["k"]

    examples = {"x": np.ascontiguousarray(X.T), "k": Y}
    report = mg.compare(scaled, [PARAMS["w"]], examples, in_axes=(None, {"x": 1, "k": 0}), repeats=1, progress=False,
                        rows=("vmapped",))
    assert report["vmapped"].loss == pytest.approx(np.mean((X @ PARAMS["w"]) * Y))
    one = mg.compare(loss, PARAMS, (X[:1], Y[:1]), repeats=1, progress=False)
    assert {r.examples for r in one.rows} == {1}
    assert one.curves["loop"][0].examples == 1


def test_bad_input():
    with pytest.raises(mg.MinigradError, match="no row 'loops'; there are loop, unrolled"):
        mg.compare(loss, PARAMS, (X, Y), rows=("loops",))
    with pytest.raises(mg.MinigradError, match="at least 1"):
        mg.compare(loss, PARAMS, (X, Y), repeats=0)
    with pytest.raises(mg.BatchError, match=r"batch sizes differ: 50 .*49"):
        mg.compare(loss, PARAMS, (X, Y[1:]), progress=False)
    with pytest.raises(mg.BatchError, match="no examples"):
        mg.compare(loss, PARAMS, ())
    with pytest.raises(mg.BatchError, match="an empty batch"):
        mg.compare(loss, PARAMS, (X[:0], Y[:0]), progress=False)
    with pytest.raises(mg.GradError, match="one floating number"):
        mg.compare(lambda p, x: x * p, 1.0, (X,), progress=False)
    assert mg.compare(loss, PARAMS, (X, Y), repeats=1, copies=1, progress=False)["vmapped"].difference < 1e-14


def test_json_and_text(report):
    data = json.loads(report.to_json())
    assert [r["name"] for r in data["rows"]] == [r.name for r in report.rows]
    assert data["rows"][2]["time"] == report["vmapped"].time
    assert data["environment"]["NumPy"] == np.__version__
    assert data["environment"]["minigrad"] == mg.__version__
    assert data["curves"]["vmapped"][0]["examples"] == 1
    text = str(report)
    assert text.startswith("loss: mean loss and gradient of 50 examples\n")
    assert len({len(line) for line in text.splitlines()[1:6]}) == 1  # columns stand in line


def test_progress_is_shown_on_terminals_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    watched, unwatched = Terminal(), io.StringIO()
    for stream in (watched, unwatched):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        mg.compare(loss, PARAMS, (X[:4], Y[:4]), repeats=1, copies=2)
    assert "compare loss" in watched.getvalue()
    assert unwatched.getvalue() == ""


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_of_reports(again, report):
    other = again(report)
    assert str(other) == str(report)
    assert other.to_json() == report.to_json()
