"""Mutation testing with Cosmic Ray: which changes of one token does no test see?

``python -m tests.mutation --sample 300 --seed 1`` draws mutants of the modules below, runs each in a copy of the tree
against the tests of its module, and prints the survivors as differences. It wants ``pip install cosmic-ray`` and takes
an hour or more; nothing else in the tests needs it.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The tests of each part, the quickest first: a mutant is mostly found by the first of them.
TESTS = {
    "minigrad/walk.py": ["tests/test_tiny.py", "tests/transforms", "tests/ops/test_registry.py"],
    "minigrad/ops": ["tests/test_tiny.py", "tests/ops", "tests/transforms/test_control.py",
                     "tests/numpy/test_special.py"],
    "minigrad/transforms": ["tests/test_tiny.py", "tests/transforms", "tests/test_errors.py"],
    "minigrad/passes": ["tests/test_tiny.py", "tests/passes", "tests/test_compiler.py",
                        "tests/test_random_programs.py"],
    "minigrad/ragged": ["tests/ragged"],
    "minigrad/backends/held.py": ["tests/backends/test_numpy.py", "tests/transforms/test_control.py",
                                  "tests/passes/test_scans.py"],
}
# Operators that replace names want a list of them; another exception or a decorator less mostly fails the import.
LEFT_OUT = {"ExceptionReplacer", "RemoveDecorator", "VariableReplacer", "VariableInserter"}


@dataclass(frozen=True)
class Mutant:
    """One change: the module, Cosmic Ray's operator and its occurrence, the line."""

    module: str
    operator: str
    occurrence: int
    line: int


def mutants(module: Path) -> list[Mutant]:
    """Return the mutants of a module that can change what it does: none in annotations, docstrings or messages."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    source = module.read_text()
    silent = _silent(ast.parse(source))
    nodes = list(ast_nodes(get_ast(source)))
    places: dict[tuple[str, tuple[int, int]], list[Mutant]] = {}
    for name in plugins.operator_names():
        if name.rpartition("/")[2] in LEFT_OUT:
            continue
        operator = plugins.get_operator(name)()
        positions = [at for node in nodes for at, _ in operator.mutation_positions(node)]
        for occurrence, at in enumerate(positions):
            if not any(a <= at < b for a, b in silent):
                # `+` becomes each of eleven other operators: one place, one mutant
                mutant = Mutant(str(module.relative_to(ROOT)), name, occurrence, at[0])
                places.setdefault((name.partition("_")[0], at), []).append(mutant)
    rng = random.Random(module.name)
    return [rng.choice(places[place]) for place in sorted(places)]


def _silent(tree: ast.AST) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the ranges of annotations, of guards of type checkers, and of what is raised."""
    spans = []
    for node in ast.walk(tree):
        inner: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign):
            inner.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner.append(node.returns)
        elif isinstance(node, ast.arg):
            inner.append(node.annotation)
        elif isinstance(node, ast.Raise):
            inner.append(node.exc)
        spans += [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in inner if n is not None]
    return spans


def run(tree: Path, tests: list[str], seconds: float) -> int:
    """Run tests in a copy of the tree; return 0 where they pass, and something else where they fail or do not end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests], cwd=tree,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return 1


def judge(mutant: Mutant, trees: list[Path], tests: list[str], seconds: float) -> tuple[Mutant, str, str, float]:
    """Return the mutant, whether it was killed, and its difference."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    tree = trees.pop()
    try:
        path = tree / mutant.module
        before = path.read_text()
        after = mutate_code(before, plugins.get_operator(mutant.operator)(), mutant.occurrence)
        if after is None or after == before:
            return mutant, "no change", "", 0.0
        path.write_text(after)
        began = time.perf_counter()
        verdict = "killed" if run(tree, tests, seconds) else "survived"
        path.write_text(before)
        old, new = before.splitlines(), after.splitlines()
        diff = "\n".join(f"  {sign} {line}" for k in range(max(len(old), len(new))) if old[k:k + 1] != new[k:k + 1]
                         for sign, line in (("-", "".join(old[k:k + 1])), ("+", "".join(new[k:k + 1]))))
        return mutant, verdict, diff[:600], time.perf_counter() - began
    finally:
        trees.append(tree)


def main() -> int:
    """Draw and run mutants; return 1 where fewer than nine of ten are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a mutant counts as killed")
    parser.add_argument("--only", help="a path that a module begins with")
    parser.add_argument("--json", type=Path, help="a file for the verdicts, written after each")
    args = parser.parse_args()
    pool: list[tuple[Mutant, list[str]]] = []
    for part, tests in TESTS.items():
        for module in sorted([ROOT / part] if part.endswith(".py") else (ROOT / part).glob("*.py")):
            if module.name != "__init__.py" and str(module.relative_to(ROOT)).startswith(args.only or ""):
                own = f"test_{module.stem}.py"
                first = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob(own))
                pool += [(m, [*first, *(t for t in tests if t not in first)]) for m in mutants(module)]
    chosen = random.Random(args.seed).sample(pool, min(args.sample, len(pool)))
    print(f"{len(pool)} mutants, {len(chosen)} of them drawn", flush=True)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(args.workers) as threads:
        trees = [Path(folder) / str(k) for k in range(args.workers)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "build", ".hypothesis"))
        for part, tests in TESTS.items():
            if run(trees[0], tests, 1800.0):
                print(f"the tests of {part} fail as they are")
                return 1
        futures = [threads.submit(judge, m, trees, tests, args.timeout) for m, tests in chosen]
        for k, future in enumerate(concurrent.futures.as_completed(futures), 1):
            mutant, verdict, diff, seconds = future.result()
            verdicts.append({**asdict(mutant), "verdict": verdict, "seconds": round(seconds, 1), "diff": diff})
            if verdict != "killed":
                print(f"{verdict}: {mutant.module}:{mutant.line} {mutant.operator}\n{diff}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(verdicts, indent=1) + "\n")
            if k % 20 == 0:
                print(f"  {k} of {len(chosen)}", flush=True)
    counted = [v for v in verdicts if v["verdict"] != "no change"]
    killed = sum(v["verdict"] == "killed" for v in counted)
    print(f"{killed} of {len(counted)} killed, {100 * killed / max(len(counted), 1):.1f} %")
    return int(killed < 0.9 * len(counted))


if __name__ == "__main__":
    sys.exit(main())
