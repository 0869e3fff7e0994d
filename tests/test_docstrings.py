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

# What is not done yet: these lists shrink to nothing.
NOT_RUNNING: set[str] = {
    "minigrad.compiler", "minigrad.report.comparison", "minigrad.testing.batching", "minigrad.testing.gradients",
    "minigrad.transforms.pytrees", "minigrad.transforms.symbolic_trace",
}
WITHOUT_EXAMPLE: set[str] = {
    "Array", "ArrayType", "Axis", "BatchError", "CheckError", "DataLoader", "Dim", "DtypeError", "GradError",
    "GraphError", "MinigradError", "Node", "Report", "ShapeError", "TraceError", "Unsupported", "bool_", "callback",
    "check_primitive", "checkpoint", "cond", "custom_jvp", "debug_nans", "dim", "f16", "f32", "f64", "fori_loop",
    "from_networkx", "from_pyg", "full_tracebacks", "gather", "get_num_threads", "grad", "hessian", "hvp", "i16", "i32",
    "i64", "i8", "jacobian", "jvp", "mean_loss", "microbatch", "numpy", "open_dataset", "optim", "optim.Optimizer",
    "optim.adam", "optim.momentum", "optim.ravel", "optim.sgd", "per_example", "per_example.clipped_mean",
    "per_example.gram", "per_example.noise_scale", "per_example.norms", "per_example.squared_norms", "per_example_grad",
    "primitive", "random", "random.bernoulli", "random.bits", "random.categorical", "random.exponential", "random.key",
    "random.normal", "random.permutation", "random.randint", "random.split", "random.uniform", "save_dataset", "scan",
    "segment_max", "segment_mean", "segment_min", "segment_softmax", "segment_sum", "set_num_threads", "special",
    "stop_gradient", "switch", "to_networkx", "to_pyg", "u16", "u32", "u64", "u8", "unroll", "value_and_grad", "vjp",
    "vmap", "where", "while_loop",
}
WITHOUT_SECTIONS: set[str] = {
    "callback", "checkpoint", "cond", "debug_nans", "dim", "fori_loop", "from_networkx", "get_num_threads", "hessian",
    "jacobian", "optim.adam", "optim.momentum", "optim.ravel", "optim.sgd", "per_example.clipped_mean",
    "per_example.gram", "per_example.noise_scale", "per_example.norms", "per_example.squared_norms", "per_example_grad",
    "random.bernoulli", "random.bits", "random.categorical", "random.exponential", "random.key", "random.normal",
    "random.permutation", "random.randint", "random.split", "random.uniform", "set_num_threads", "stop_gradient",
    "switch", "to_networkx", "unroll", "value_and_grad", "vjp", "where", "while_loop",
}
LONG_FIRST_LINE: set[str] = {
    "check_batching", "open_dataset",
}


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


@pytest.mark.parametrize("name", [m for m in MODULES if m not in NOT_RUNNING])
def test_examples_run(name):
    """Examples may use `mg` and `np` without an import."""
    tests = doctest.DocTestFinder().find(importlib.import_module(name), globs={"mg": mg, "np": np})
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_public_names_have_examples():
    without = {name for name, value in PUBLIC.items() if ">>> " not in docstring(value)}
    assert without <= WITHOUT_EXAMPLE


def test_public_functions_document_parameters_and_results():
    assert {name for name, value in PUBLIC.items() if missing_sections(value)} <= WITHOUT_SECTIONS


@pytest.mark.parametrize("name", [n for n in PUBLIC if n not in LONG_FIRST_LINE])
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
