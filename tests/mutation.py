"""Mutation testing with Cosmic Ray: find changes of one token that no test detects.

``python -m tests.mutation --sample 300 --seed 1`` draws mutants of the modules below, runs each in a copy of the tree
against the tests of its module, and prints the survivors as differences. Coverage, measured first, selects the tests
that execute the mutant's line. The run needs ``pip install cosmic-ray pytest-cov`` and half an hour of two cores.

As a plugin of pytest (``-p tests.mutation``) the module orders and times the tests of such a run.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import itertools
import json
import os
import queue
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

MODULES = ("minigrad/interpreters.py", "minigrad/ops", "minigrad/transforms", "minigrad/passes", "minigrad/ragged",
           "minigrad/backends/subgraph.py")
# The tests that may detect a mutant, in parts that are measured side by side.
TESTS = (
    ["tests/test_tiny.py", "tests/test_axes.py", "tests/ops", "tests/numpy/test_special.py", "tests/test_segment.py",
     "tests/report/test_flops.py"],
    ["tests/transforms", "tests/test_errors.py", "tests/test_random.py", "tests/backends/test_numpy.py",
     "tests/backends/test_subgraph.py"],
    ["tests/passes", "tests/test_compiler.py", "tests/test_random_programs.py", "tests/test_hunt.py"],
    ["tests/ragged", "tests/numpy/test_indexing.py", "tests/numpy/test_updates.py", "tests/test_traced_array.py"],
    ["tests/backends/cupy"],
)
# Operators that replace names want a list of them; another exception or a decorator less mostly fails the import.
LEFT_OUT = {"ExceptionReplacer", "RemoveDecorator", "VariableReplacer", "VariableInserter"}
# Assertions of `zip` and of records, data of tests (points and orders of derivatives), sizes of caches.
SILENT = {"strict", "frozen", "samples", "order", "maxsize"}


@dataclass(frozen=True)
class Mutant:
    """One change: the module, Cosmic Ray's operator and its occurrence, the line."""

    module: str
    operator: str
    occurrence: int
    line: int


def mutants(module: Path) -> list[Mutant]:
    """Return the mutants of a module, without those in annotations, messages, assertions and samples."""
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
    """Return the ranges of annotations, of exceptions raised, of assertions, and of samples of primitives."""
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    makers = {f.name for f in functions if f.returns is not None and "Sample" in ast.unparse(f.returns)} | {"Sample"}
    spans = []
    for node in ast.walk(tree):
        inner: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign):
            inner.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner.append(node if node.name in makers else node.returns)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in makers:
            inner.append(node)
        elif isinstance(node, ast.arg):
            inner.append(node.annotation)
        elif isinstance(node, ast.Raise):
            inner.append(node.exc)
        elif isinstance(node, ast.keyword) and node.arg in SILENT:
            inner.append(node.value)
        spans += [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in inner if n is not None]
    return spans


def run(tree: Path, tests: list[str], seconds: float, *options: str, **environment: str) -> str:
    """Run tests in a copy of the tree; return "passed", "failed", or "no end" past so many seconds of processor time.

    Processor time does not depend on other load. A deadlock uses none: ten times as long by the clock ends it.
    """
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))

    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutation", *options, *tests],
        cwd=tree, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=limit)
    try:
        code = process.wait(10 * seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "no end"
    return "passed" if code == 0 else "no end" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "failed"


# -- pytest's plugin: the environment names the files ---------------------------------------------------------------


def pytest_collection_modifyitems(config, items):
    """Keep the selected tests, in the order of the selection."""
    if chosen := os.environ.get("MUTATION_SELECTION"):
        order = {name: k for k, name in enumerate(Path(chosen).read_text().splitlines())}
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid not in order])
        items[:] = sorted((i for i in items if i.nodeid in order), key=lambda i: order[i.nodeid])


def pytest_runtest_logreport(report):
    """Note each test's outcome and time."""
    if (times := os.environ.get("MUTATION_TIMES")) and report.when == "call":
        with Path(times).open("a") as file:
            file.write(f"{report.outcome}\t{report.duration}\t{report.nodeid}\n")


# -- selection ------------------------------------------------------------------------------------------------------


@dataclass
class Covered:
    """The tests that pass, with their seconds; and for each line, the tests that execute it."""

    seconds: dict[str, float]
    lines: dict[tuple[str, int], set[str]]

    def measure(self, tree: Path, tests: list[str]) -> None:
        """Run tests once, with coverage by test."""
        import coverage

        data, times = tree / "mutation.coverage", tree / "mutation.times"
        run(tree, tests, 7200.0, "--cov=minigrad", "--cov-context=test", "--cov-report=",
            COVERAGE_FILE=str(data), MUTATION_TIMES=str(times))
        rows = [row.split("\t") for row in times.read_text().splitlines()]
        passed = {name: float(seconds) for outcome, seconds, name in rows if outcome == "passed"}
        self.seconds.update(passed)
        found = coverage.CoverageData(str(data))
        found.read()
        for file in found.measured_files():
            module = str(Path(file).relative_to(tree.resolve()))
            if module.startswith(MODULES):
                for line, contexts in found.contexts_by_lineno(file).items():
                    self.lines.setdefault((module, line), set()).update(
                        {c.partition("|")[0] for c in contexts} & passed.keys())
        data.unlink()
        times.unlink()
        print(f"  {' '.join(tests)}: {len(passed)} tests pass", flush=True)

    def tests(self, mutant: Mutant, most: float) -> list[str]:
        """Return the tests that execute the mutant's line, its module's own first, then the quickest.

        A line that runs at import concerns every test. At most so many seconds of tests are taken.
        """
        own = f"/test_{Path(mutant.module).stem}.py::"
        chosen = self.lines.get((mutant.module, mutant.line)) or self.seconds.keys()
        order = sorted(chosen, key=lambda name: (own not in name, self.seconds[name]))
        until = itertools.accumulate(self.seconds[name] for name in order)
        return [name for name, seconds in zip(order, until, strict=True) if seconds <= most or own in name]


def judge(mutant: Mutant, trees: queue.Queue[Path], covered: Covered, most: float) -> tuple[Mutant, str, str, float]:
    """Return the mutant, its fate, its difference and the seconds that its tests took."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    tree = trees.get()
    try:
        path, selection = tree / mutant.module, tree / "mutation.selection"
        before = path.read_text()
        after = mutate_code(before, plugins.get_operator(mutant.operator)(), mutant.occurrence)
        if after is None or after == before:
            return mutant, "no change", "", 0.0
        tests = covered.tests(mutant, most)
        selection.write_text("\n".join(tests))
        path.write_text(after)
        began = time.perf_counter()
        end = run(tree, list(dict.fromkeys(name.partition("::")[0] for name in tests)),
                  3 * sum(covered.seconds[name] for name in tests) + 40, "-x", MUTATION_SELECTION=str(selection))
        path.write_text(before)
        verdict = {"passed": "survived", "failed": "killed"}.get(end, end)
        old, new = before.splitlines(), after.splitlines()
        diff = "\n".join(f"  {sign} {line}" for k in range(max(len(old), len(new))) if old[k:k + 1] != new[k:k + 1]
                         for sign, line in (("-", "".join(old[k:k + 1])), ("+", "".join(new[k:k + 1]))))
        return mutant, verdict, diff[:600], time.perf_counter() - began
    finally:
        trees.put(tree)


def main() -> int:
    """Draw and run mutants; return 1 where fewer than nine of ten are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the tests of one mutant take at most")
    parser.add_argument("--only", help="a path that a module begins with")
    parser.add_argument("--json", type=Path, help="a file for the verdicts, written after each, and read to go on")
    args = parser.parse_args()
    pool: list[Mutant] = []
    for part in MODULES:
        for module in sorted([ROOT / part] if part.endswith(".py") else (ROOT / part).glob("*.py")):
            if module.name != "__init__.py" and str(module.relative_to(ROOT)).startswith(args.only or ""):
                pool += mutants(module)
    chosen = random.Random(args.seed).sample(pool, min(args.sample, len(pool)))
    print(f"{len(pool)} mutants, {len(chosen)} of them drawn", flush=True)
    verdicts = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    done = {(v["module"], v["operator"], v["occurrence"]) for v in verdicts}
    chosen = [m for m in chosen if (m.module, m.operator, m.occurrence) not in done]
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(args.workers) as threads:
        trees: queue.Queue[Path] = queue.Queue()
        for k in range(args.workers):
            tree = Path(folder) / str(k)
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "__pycache__", "build", ".hypothesis"))
            trees.put(tree)

        covered = Covered({}, {})

        def measure(tests: list[str]) -> None:
            tree = trees.get()
            try:
                covered.measure(tree, tests)
            finally:
                trees.put(tree)

        list(threads.map(measure, TESTS))
        futures = [threads.submit(judge, m, trees, covered, args.seconds) for m in chosen]
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
