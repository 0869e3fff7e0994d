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
import resource
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


def run(tree: Path, tests: list[str], seconds: float) -> str:
    """Run tests in a copy of the tree; return "passed", "failed", or "no end" past so many seconds of processor time.

    Processor time does not depend on other load. A deadlock uses none: ten times as long by the clock ends it.
    """
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))

    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests], cwd=tree,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=limit)
    try:
        code = process.wait(10 * seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "no end"
    return "passed" if code == 0 else "no end" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "failed"


def judge(mutant: Mutant, trees: list[Path], tests: list[list[str]], seconds: float) -> tuple[Mutant, str, str, float]:
    """Return the mutant, what became of it, and its difference: its module's own tests run first, then its part's."""
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
        ends = (run(tree, some, seconds) for some in tests if some)
        end = next((e for e in ends if e != "passed"), "survived")
        verdict = "killed" if end == "failed" else end
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
    parser.add_argument("--factor", type=float, default=2.0,
                        help="a mutant has no end if it takes so many times the processor time of its tests")
    parser.add_argument("--only", help="a path that a module begins with")
    parser.add_argument("--json", type=Path, help="a file for the verdicts, written after each")
    args = parser.parse_args()
    pool: list[tuple[Mutant, list[list[str]], str]] = []
    for part, tests in TESTS.items():
        for module in sorted([ROOT / part] if part.endswith(".py") else (ROOT / part).glob("*.py")):
            if module.name != "__init__.py" and str(module.relative_to(ROOT)).startswith(args.only or ""):
                own = f"test_{module.stem}.py"
                first = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob(own))
                pool += [(m, [first, [t for t in tests if t not in first]], part) for m in mutants(module)]
    chosen = random.Random(args.seed).sample(pool, min(args.sample, len(pool)))
    print(f"{len(pool)} mutants, {len(chosen)} of them drawn", flush=True)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(args.workers) as threads:
        trees = [Path(folder) / str(k) for k in range(args.workers)]
        for tree in trees:
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "build", ".hypothesis"))
        limits = {}
        for part in sorted({part for _, _, part in chosen}):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if run(trees[0], TESTS[part], 3600.0) != "passed":
                print(f"the tests of {part} fail as they are")
                return 1
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            limits[part] = args.factor * took + 10
            print(f"  the tests of {part} take {took:.0f} s of processor time", flush=True)
        futures = [threads.submit(judge, m, trees, tests, limits[part]) for m, tests, part in chosen]
        for k, future in enumerate(concurrent.futures.as_completed(futures), 1):
            mutant, verdict, diff, seconds = future.result()
            verdicts.append({**asdict(mutant), "verdict": verdict, "seconds": round(seconds, 1), "diff": diff})
            if verdict == "survived":
                print(f"{verdict}: {mutant.module}:{mutant.line} {mutant.operator}\n{diff}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(verdicts, indent=1) + "\n")
            if k % 20 == 0:
                print(f"  {k} of {len(chosen)}", flush=True)
    counted = [v for v in verdicts if v["verdict"] != "no change"]
    killed = sum(v["verdict"] in ("killed", "no end") for v in counted)
    endless = sum(v["verdict"] == "no end" for v in counted)
    share = 100 * killed / max(len(counted), 1)
    print(f"{killed} of {len(counted)} killed, {share:.1f} %, {endless} of them without end")
    return int(killed < 0.9 * len(counted))


if __name__ == "__main__":
    sys.exit(main())
