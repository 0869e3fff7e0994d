"""The four guides of CONTRIBUTING.md run as printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_guides_run_as_printed(tmp_path):
    """In a process of its own, since they add an operation, a function, a pass and a backend to the package."""
    assert len(BLOCKS) == 6
    script = tmp_path / "guides.py"
    script.write_text("\n".join(BLOCKS))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=ROOT,
                          env={"PYTHONPATH": str(ROOT), "MINIGRAD_CACHE_DIR": str(tmp_path), "PATH": ""})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_named_files_and_modules_exist(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    paths = re.findall(r"`((?:minigrad|tests|benchmarks|examples|\.ci)/[\w./]*)`", text)
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert paths
    assert [p for p in (*paths, *links) if not (ROOT / p).exists()] == []
