"""What the package says of itself."""

import ast
import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import minigrad

from . import typed_program

ROOT = Path(__file__).resolve().parents[1]

setup = configparser.ConfigParser(interpolation=None)
setup.read(ROOT / "setup.cfg", encoding="utf-8")


def lines(section: str, option: str) -> list[str]:
    return setup[section][option].split("\n")[1:]


def test_core_dependencies():
    assert lines("options", "install_requires") == ["numpy>=2.1", "opt_einsum", "optree", "rich"]


def test_extras():
    extras = {name: set(lines("options.extras_require", name)) for name in setup["options.extras_require"]}
    assert set(extras) == {"native", "cuda", "special", "graphs", "examples", "bench", "test", "browser", "notebook",
                           "docs", "dask", "mpi", "dev"}
    assert extras["native"] == {"llvmlite>=0.45"}
    assert extras["cuda"] == {"cupy-cuda13x[ctk]", "array-api-compat"}
    assert extras["examples"] >= {"scikit-learn"}
    assert extras["bench"] >= {"jax", "torch"}


def test_version():
    assert setup["metadata"]["version"] == "attr: minigrad.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", minigrad.__version__)
    try:
        installed = importlib.metadata.version("minigrad")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("minigrad runs from its source tree, not installed")
    assert installed == minigrad.__version__


def test_python_versions():
    oldest = re.fullmatch(r">=3\.(\d+)", setup["options"]["python_requires"])
    named = re.findall(r":: 3\.(\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    assert oldest
    assert named
    assert named[0] == oldest[1]
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert ruff["target-version"] == f"py3{oldest[1]}"


def test_pyproject_holds_only_the_build_system_and_the_checkers():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(settings) == {"build-system", "tool"}
    assert set(settings["tool"]) == {"ruff", "mypy"}


def test_the_wheel_leaves_nothing_out():
    """Only modules in packages are shipped, and what is declared, so there must be nothing else."""
    package = ROOT / "minigrad"
    files = {p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    declared = {p for pattern in setup["options.package_data"]["minigrad"].split() for p in package.glob(pattern)}
    assert {p for p in files if p.suffix != ".py"} == declared
    assert [p for p in {p.parent for p in files - declared} if not (p / "__init__.py").exists()] == []


def test_licence():
    assert setup["metadata"]["license_expression"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "the minigrad authors" in text


def test_changelog_names_this_version():
    assert minigrad.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_ci_parses():
    try:
        done = subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no bash here")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("name", "runs"), [("main", "minigrad compare"), ("test", "pytest")])
def test_readme_has_the_commands_that_ci_runs(name, runs):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- command: {name} -->\n+```sh\n(.+?)\n```$", readme, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    assert re.fullmatch(rf"(python -m )?pip install \S+ && (python -m )?{runs}", found[0])


def imported_names() -> set[str]:
    """Return the public names that the package's ``__init__`` imports."""
    tree = ast.parse((ROOT / "minigrad" / "__init__.py").read_text(encoding="utf-8"))
    names = {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    return {n for n in names if not n.startswith("_")}


def test_all_equals_names_imported_by_package():
    assert set(minigrad.__all__) == imported_names()
    assert len(minigrad.__all__) == len(set(minigrad.__all__))


@pytest.mark.parametrize("module", [minigrad, minigrad.random, minigrad.optim, minigrad.per_example])
def test_dir_shows_public_names_only(module):
    assert dir(module) == sorted(module.__all__)
    for name in dir(module):
        value = getattr(module, name)
        assert not name.startswith("_")
        assert not isinstance(value, types.ModuleType) or value.__name__.startswith("minigrad.")


def test_star_import_gives_the_public_names():
    space: dict[str, object] = {}
    exec("from minigrad import *", space)
    assert space.keys() - {"__builtins__"} == set(minigrad.__all__)


def test_a_type_checker_accepts_a_program_with_annotations(tmp_path):
    """Decorators with options, and methods. Errors that the program ignores are errors, or ``--strict`` says so."""
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(Path(typed_program.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", tmp_path / "cache",
         "program.py"], cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True,
        check=False)
    assert done.stdout == "Success: no issues found in 1 source file\n", done.stdout + done.stderr
    vector, matrix = (3,), (2, 3)
    assert typed_program.shapes() == [
        vector, vector, (2,), vector, matrix, vector, (), (3, 3), (3, 3), (2,), matrix, (), (), vector, vector,
        *[vector] * 6, (2,), (2,), (), (), vector, vector]
