"""README's code runs and prints its graphs, and its links lead to files."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_code_runs_and_prints_the_graphs_shown(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, "quickstart.py", "exec"), namespace)
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    assert shown in printed
    assert "f64[B, 3]" in shown
    assert "np.tanh" in printed  # the program


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_both_commands_are_marked():
    for name in ("main", "test"):
        assert re.search(rf"<!-- command: {name} -->\n```sh\n.+\n```", README)
