"""The benchmark of a GPU runs on the stand-in, writes what it has, and goes on where it ended."""

import json
import sys

import pytest

from benchmarks import gpu


@pytest.fixture
def gpu_in_small(monkeypatch, tmp_path, on_stand_in):
    """Return the arguments of a run on the stand-in, with small sizes and short rounds."""
    for name, value in (("BATCHES", (4, 6)), ("COMPILED", (4,)), ("GRAPHS", (2, 3)), ("EXAMPLES", (50, 60)),
                        ("SIZES", (7, 5, 5, 3)), ("ATTENTION", (3, 4)), ("SHUFFLED", 4), ("SEQUENCES", 3),
                        ("STEPS", 4), ("COPIED", 1000),
                        ("ROUNDS", 1), ("TURN", 0.0), ("missing", lambda: "")):
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu.Contestant, "latency", lambda self, seconds: [self.queued(1)])
    monkeypatch.setattr(sys, "argv", ["gpu", "--folder", str(tmp_path), "--resume"])
    return tmp_path / "gpu.json"


def test_gpu_benchmark_writes_partial_results_when_a_contestant_fails(gpu_in_small, monkeypatch, capsys):
    def break_down(*args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu, "mlp_by_hand", break_down)
    assert gpu.main() == 0
    shown = capsys.readouterr().out
    assert "CuPy, by hand: FAILED: RuntimeError: no such kernel" in shown
    first = json.loads(gpu_in_small.read_text())
    measured = {(title, name) for title, rows in first["rounds"].items() for name in rows}
    assert len({title for title, _ in measured}) == 2 + 1 + 2 + 2 + 2 + 1 + 1 + 1 + 1
    assert {*gpu.OWN, *gpu.WITHOUT} <= {name for _, name in measured}
    assert first["failed"]["training step, 4 examples"]["CuPy, by hand"] == "RuntimeError: no such kernel"
    assert first["notes"]["device"] == "a stand-in"
    assert len([c for c in first["cases"] if c["title"].endswith("queued")]) == 13


def test_a_run_keeps_peers_of_the_same_device_and_measures_changed_source_again(tmp_path, monkeypatch):
    jobs = [gpu.Job("a case", name, None) for name in ("torch.compile", "minigrad", "JAX jit")]
    path = tmp_path / "gpu.json"

    def record(device="one", resume=True):
        return gpu.Record(path, {"device": device}, jobs, resume)

    first = record()
    assert [j.name for j in first.todo()] == ["minigrad", "JAX jit", "torch.compile"]
    monkeypatch.setattr(gpu, "measure", lambda job, quick: {"latency": [2e-3] * 3, "queued": [1e-3] * 3})
    for job in first.todo()[:2]:
        assert gpu.attempt(first, job, False) == "latency 2 ms, queued 1 ms"
    assert [j.name for j in record().todo()] == ["torch.compile"]
    assert [j.name for j in record("another").todo()] == ["minigrad", "JAX jit", "torch.compile"]
    assert [j.name for j in record(resume=False).todo()] == ["minigrad", "JAX jit", "torch.compile"]
    monkeypatch.setattr(gpu, "source", lambda: "changed")
    assert [j.name for j in record().todo()] == ["minigrad", "torch.compile"]


def test_an_error_of_minigrad_ends_no_run_and_counts(tmp_path, monkeypatch, capsys):
    def wrong():
        raise AssertionError("minigrad differs from float64 by 1")

    monkeypatch.setattr(gpu, "bandwidth", lambda: 1e12)
    monkeypatch.setattr(gpu, "measure", lambda job, quick: {"latency": [1.0], "queued": [1.0]})
    jobs = [gpu.Job("a case", "minigrad", None, wrong), gpu.Job("a case", "JAX jit", None)]
    record = gpu.Record(tmp_path / "gpu.json", {"device": "one"}, jobs)
    assert gpu.run(record, False, 60) == 1
    assert "a case, minigrad: FAILED: AssertionError: minigrad differs" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "gpu.json").read_text())["rounds"]["a case"]) == ["JAX jit"]
    assert gpu.run(gpu.Record(tmp_path / "gpu.json", {"device": "one"}, jobs), False, -1) == 0
    assert "time is up: 2 are left" in capsys.readouterr().out
