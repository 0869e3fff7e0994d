"""The stages of a first run on a GPU work on the stand-in."""

import json

import pytest

from benchmarks import gpu
from minigrad.backends.cupy import driver

from . import first_contact


def test_stages_run_and_a_failure_ends_none(on_stand_in, monkeypatch, tmp_path, capsys):
    for name, value in (("BATCHES", (5,)), ("GRAPHS", 6), ("EXAMPLES", (40,)), ("CALLS", 3)):
        monkeypatch.setattr(first_contact, name, value)
    monkeypatch.setattr(gpu, "SIZES", (7, 5, 5, 3))
    monkeypatch.setattr(gpu, "COPIED", 1000)
    monkeypatch.setattr(driver, "missing", lambda: "no driver")
    assert first_contact.main(tmp_path) == 1
    shown = capsys.readouterr().out
    assert "libraries: FAILED: AssertionError: no driver" in shown
    found = json.loads((tmp_path / "first.json").read_text())
    assert list(found) == list(first_contact.stages())
    assert found["matrix products"] == "all products are right; algorithms: {'': 288, 'bias': 120}"
    assert "all of it is captured" in found["programs"]
    assert "product [1, 5, 5, 7]" in found["time of a training step, 5"]
    assert "in sorts" in found["time of graphs"]


def test_a_wrong_product_is_named(on_stand_in, monkeypatch):
    monkeypatch.setattr(type(on_stand_in), "clear", lambda self, address, nbytes: None)
    with pytest.raises(AssertionError, match=r"24 products are wrong.*f4 \(2, 4, 6, 0\) False False"):
        first_contact.multiply()
