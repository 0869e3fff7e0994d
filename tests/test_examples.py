"""Every example runs on its real data, from any folder, without a warning."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the examples' data comes with scikit-learn")

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
