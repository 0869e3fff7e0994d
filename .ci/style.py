"""Check the words of the package: ``python .ci/style.py [PATH ...]`` prints sentences that read like riddles.

Docstrings, comments and pages begin with the field's noun and an active verb. A relative clause in place of the noun
("what is read", "whoever calls it"), "is no X" for "is not an X", and module docstrings that begin with a question word
are found by pattern. The exit status is 1 where there is one.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ("minigrad", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs")

# A question word that stands for a noun, with the verb or pronoun that follows it.
CLAUSE = re.compile(
    r"\bwhat (?:is|are|was|were|it|its|a|an|the|this|has|have|does|do|can|no|all|each|one|they|you|to|may|must|only|"
    r"comes|depends|follows|stands)\b|\bwho (?:is|are|reads|writes|uses|asks|calls|makes|made|says|wants|needs)\b|"
    r"\b(?:of|for|by|from|in) what\b|\bwhoever\b|\bwhatever\b|\bnobody\b|\bno one\b|\bthat which\b|"
    r"(?<!there )\bis no (?!longer|more|less|larger|smaller|faster|slower)[a-z]+\b", re.IGNORECASE)
OPENING = re.compile(r"(?:On |Of )?(?:What|Where|How|Who|Which|Whose|Why)\b")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text, code in backticks left out."""
    text = re.sub(r"``[^`]*``|`[^`]*`", "`code`", text)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.:;])\s+", " ".join(paragraph.split()))


def riddles(text: str) -> list[str]:
    """Return the sentences in which a clause stands for a noun."""
    return [s for s in sentences(text) if CLAUSE.search(s)]


def check_module(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the sentence of each finding in a Python file."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        text = ast.get_docstring(node) or ""
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Module) and OPENING.match(text):
            yield line, text.split("\n", 1)[0]
        yield from ((line, sentence) for sentence in riddles(text))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from ((token.start[0], sentence) for sentence in riddles(token.string.lstrip("# ")))


def check_page(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the findings in a Markdown file, its code left out."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^(?P<fence>`{3,}).*?^(?P=fence)$", lambda code: "\n" * code.group(0).count("\n"), text,
                  flags=re.DOTALL | re.MULTILINE)
    for sentence in riddles(text):
        start = text.find(sentence.split(" `code`")[0][:40])
        yield text.count("\n", 0, max(start, 0)) + 1, sentence


def main(arguments: list[str]) -> int:
    """Print all findings; return 1 where there is one."""
    count = 0
    files = [file for path in (Path(p) if arguments else ROOT / p for p in arguments or DEFAULT)
             for file in (sorted((*path.rglob("*.py"), *path.rglob("*.md"))) if path.is_dir() else [path])]
    for file in dict.fromkeys(files):
        for line, sentence in dict.fromkeys(check_page(file) if file.suffix == ".md" else check_module(file)):
            count += 1
            print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{line}: {sentence[:120]}")
    print(f"{count} sentences to reword" if count else "words: all checks passed")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
