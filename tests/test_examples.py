"""Every example runs on its real data, from any folder, without a warning."""

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the examples' data comes with scikit-learn")

PEERS = re.compile(r"^(?:import|from) (jax|optax|torch)\b", re.MULTILINE)  # no extra for tests brings them
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path, tmp_path, monkeypatch, capsys):
    for library in PEERS.findall(path.read_text()):
        pytest.importorskip(library, reason="the example audits a step of this library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path)])  # not those of pytest
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
