"""README's first page runs as printed, and what it links to is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_page_runs_as_printed(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "f64[B, 16]" in printed
    assert "np.matmul" in printed


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_both_commands_are_marked():
    for name in ("main", "test"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n.+\n```", README)
