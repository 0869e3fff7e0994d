"""The checker of words finds riddles, and leaves plain sentences alone."""

import runpy
from pathlib import Path

import pytest

style = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "style.py"))


@pytest.mark.parametrize("sentence", [
    "Return what is read.", "The error goes to whoever calls it.", "A view is no copy.", "Nobody reads the result.",
    "Examples that no one asked for.", "Return the dtype of what a sum adds up."])
def test_riddles_are_found(sentence):
    assert style["riddles"](f"Return the operand. {sentence}") == [sentence]


@pytest.mark.parametrize("text", [
    "Return the operands that a vjp rule needs.", "The order in which nodes run is topological.",
    "A view is no longer than its operand.", "Return ``what is`` and `whoever`."])
def test_plain_sentences_pass(text):
    assert style["riddles"](text) == []


def test_each_kind_of_text_is_read(tmp_path, capsys):
    (tmp_path / "module.py").write_text(
        '"""What a module holds."""\n\n\ndef f():\n    """Return what is read."""\n    # whoever calls it\n')
    (tmp_path / "page.md").write_text("# A page\n\n```python\nwhat is this\n```\n\nIt shows what is shared.\n")
    assert style["main"]([str(tmp_path), str(tmp_path / "page.md")]) == 1
    lines = [line.rsplit("/", 1)[-1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["module.py:1: What a module holds.", "module.py:4: Return what is read.",
                     "module.py:6: whoever calls it", "page.md:7: It shows what is shared.", "4 sentences to reword"]
