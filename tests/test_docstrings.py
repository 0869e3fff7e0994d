"""Docstrings of public names: their sections, and their examples, which run as doctests."""

import doctest
import importlib
import inspect
import re
import types
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

ROOT = Path(__file__).resolve().parents[1]
NAMESPACES = ("random", "optim", "per_example")
PUBLIC = {name: getattr(mg, name) for name in mg.__all__} | {
    f"{space}.{name}": getattr(getattr(mg, space), name) for space in NAMESPACES
    for name in getattr(mg, space).__all__}
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                 for path in (ROOT / "minigrad").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def docstring(value: object) -> str:
    """Return the docstring of a public name: of an instance, that of its class."""
    is_own = isinstance(value, (type, types.ModuleType, types.FunctionType))
    return inspect.getdoc(value if is_own else type(value)) or ""


def sections(text: str) -> set[str]:
    """Return the headings of a docstring in NumPy's style."""
    return set(re.findall(r"^(\w[\w ]*)\n-{3,}$", text, re.MULTILINE))


def missing_sections(value: object) -> set[str]:
    """Return the sections that a function's signature asks for and its docstring lacks."""
    if not isinstance(value, types.FunctionType):
        return set()
    signature = inspect.signature(value)
    needed = {"Parameters"} if signature.parameters else set()
    have = sections(docstring(value))
    return (needed | ({"Returns"} if "Yields" not in have else set())) - have


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    """Examples may use `mg` and `np` without an import; docstrings taken over from NumPy are not ours to run."""
    module = importlib.import_module(name)
    source = inspect.getsource(module)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(module, globs={"mg": mg, "np": np}):
        if test.examples and ">>> " + test.examples[0].source.split("\n")[0] in source:
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_public_names_have_examples():
    assert [name for name, value in PUBLIC.items() if ">>> " not in docstring(value)] == []


def test_public_functions_document_parameters_and_results():
    assert {name: missing for name, value in PUBLIC.items() if (missing := missing_sections(value))} == {}


@pytest.mark.parametrize("name", PUBLIC)
def test_first_line_is_a_sentence_that_fits_on_a_line(name):
    first = docstring(PUBLIC[name]).split("\n")[0]
    assert 10 < len(first) <= 110
    assert first[0].isupper() or first[0] == "`" or first.startswith("minigrad")
    assert first.endswith((".", ":"))


def test_missing_sections_are_seen():
    def f(x):
        """Return x.

        Parameters
        ----------
        x : float
        """
        return x

    assert sections(f.__doc__ and inspect.getdoc(f)) == {"Parameters"}
    assert missing_sections(f) == {"Returns"}
