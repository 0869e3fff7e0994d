"""Who may import whom: the list in order, and every import read from the source."""

import ast
import collections
import functools
import graphlib
import importlib
import io
import re
import subprocess
import sys
import textwrap
import tokenize
from pathlib import Path

import pytest

import minigrad
from minigrad.graph import PRIMITIVES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minigrad"

# Each may import what stands before it, and within itself. `__init__` is the package's public face.
ORDER = ("immutable", "errors", "locks", "collector", "progress", "expression", "tracebacks", "symbolic", "budgets",
         "tracing", "size_queries", "sizes", "static", "graph", "argument_sizes", "axes", "primitive", "defined_sizes",
         "families", "parameters", "combiners", "views", "blas", "interpreters", "debugging", "text", "codec", "draw",
         "ops", "ragged", "traced_array", "labels", "numpy", "segment", "sparse", "transforms", "plain", "registry",
         "passes", "backends", "batch_sizes", "compiler", "optim", "random", "per_example", "distributed", "testing",
         "report", "auditing", "explorer", "__init__", "cli", "__main__")

# The same within the native backend: modules in none of its folders may import all of them.
NATIVE = ("llvm", "runtime", "codegen", "kernels", "plan")

# What a function may import when it runs, and why not at once.
_EXTRA, _SLOW = "an optional package", "takes long to import, and the first gradient does not need it"
LAZY = {**dict.fromkeys(("IPython", "array_api_compat", "cairosvg", "cuda", "cupy", "cupyx", "llvmlite", "networkx",
                         "scipy", "sklearn", "threadpoolctl", "torch", "torch_geometric"), _EXTRA),
        **dict.fromkeys(("hashlib", "minigrad.backends.numpy", "minigrad.backends.numpy_source",
                         "minigrad.batch_sizes", "minigrad.draw", "opt_einsum", "rich", "tempfile"), _SLOW)}
NO_FORKS = {"array_api_compat", "cuda", "cupy", "cupyx"}  # a child cannot use the GPU of its parent
CORE = {"numpy", "opt_einsum", "optree", "rich"}
# What is wholly about an extra: its modules import that at once, and are themselves imported inside functions only,
# but for those that need nothing of it.
ABOUT = {"minigrad.backends.native": "llvmlite", "minigrad.backends.cupy": "cupy",
         "minigrad.distributed.dask": "dask"}
BARE = {"minigrad.backends.native",
        *(f"minigrad.backends.native.{m}" for m in NATIVE),
        *(f"minigrad.backends.native.runtime.{m}" for m in ("cache", "cpus", "jit", "threads"))}
# The operations that a module outside `ops` names, and why it cannot read what it needs off the primitive.
_MADE = "the graph's own nodes, below or beside all operations"
NAMED = {
    "minigrad.graph": ({"full", "input"}, _MADE),
    "minigrad.transforms.closures": ({"input"}, _MADE),
    "minigrad.transforms.effects": ({"input"}, _MADE),
    "minigrad.transforms.trace": ({"input"}, _MADE),
    "minigrad.transforms.host_random": ({"callback"}, "the operation that runs the user's code"),
    "minigrad.transforms.batch_axis": (
        {"any", "barrier", "const", "custom", "full", "proj", "size"},
        "the batch size and the tests of batched loops are recognised as they were built"),
    "minigrad.transforms.microbatch": (
        {"barrier", "const", "full", "mean", "proj"}, "the mean over the batch has weights; constants stay outside"),
    "minigrad.ragged.rules": ({"const", "full"}, "the numbers of a constant index"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit(module: str) -> str:
    """Return the entry of `ORDER` that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(source: str, module: str, is_package: bool, types: bool = False) -> list[tuple[str, int, bool]]:
    """Return what a module imports: (dotted name, line, whether inside a function).

    `types`: with names that only type checkers import; ``import module`` in their place is a reference, not counted.
    """
    found = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for child in node.body if types else ():
                if isinstance(child, ast.ImportFrom):
                    visit(child, inside)
            return
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + is_package
                base = ".".join([*parts[:keep], *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.append((name if name in MODULES else base, node.lineno, inside))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


@functools.cache
def imports_of(module: str, types: bool = False) -> list[tuple[str, int, bool]]:
    path = MODULES[module]
    return imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py", types)


def own(name: str) -> bool:
    return name.split(".")[0] == "minigrad"


def about(module: str) -> str | None:
    """Return the extra that a module is wholly about."""
    if module in BARE:
        return None
    return next((extra for package, extra in ABOUT.items() if f"{module}.".startswith(f"{package}.")), None)


def test_every_module_has_its_place():
    assert Path(minigrad.__file__).parent == PACKAGE, "these tests read another copy than they run"
    assert {unit(m) for m in MODULES} <= set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    place = ORDER.index(unit(module))
    for name, line, _ in imports_of(module):
        if own(name):
            assert ORDER.index(unit(name)) <= place, f"{module}, line {line}: imports {name}, which stands above it"


@pytest.mark.parametrize("folder", NATIVE)
def test_imports_go_down_within_the_native_backend(folder):
    package = "minigrad.backends.native."
    modules = [m for m in MODULES if m.startswith(f"{package}{folder}.")]
    found = {name.removeprefix(package).split(".")[0]
             for m in modules for name, _, _ in imports_of(m) if name.startswith(package)}
    assert modules
    assert found <= set(NATIVE[:NATIVE.index(folder) + 1])


def test_lazy_imports_match_type_checking_imports():
    tree = ast.parse(MODULES["minigrad"].read_text(encoding="utf-8"))
    (told,) = (n for n in tree.body if isinstance(n, ast.If))
    pairs = {alias.name: f".{statement.module or alias.name}" for statement in told.body for alias in statement.names}
    assert pairs == minigrad._LATER
    for name, where in pairs.items():
        module = importlib.import_module(where, "minigrad")
        assert getattr(minigrad, name) is (module if where == f".{name}" else getattr(module, name))
    with pytest.raises(AttributeError, match=r"module 'minigrad' has no attribute 'conpare'$"):
        minigrad.conpare  # noqa: B018


def test_names_of_other_libraries_lead_to_names_here():
    with pytest.raises(AttributeError, match=r"module 'minigrad' has no attribute 'jit': write mg\.compile$"):
        minigrad.jit  # noqa: B018
    assert not hasattr(minigrad, "make_jaxpr")
    for theirs, ours in minigrad._ELSEWHERE.items():
        assert theirs not in minigrad.__all__
        for name in ours.split(", "):
            if name.startswith("mg."):
                assert name[3:] in minigrad.__all__


def test_python_suggests_names_for_misspelt_ones():
    done = subprocess.run([sys.executable, "-c", "import minigrad; minigrad.conpile"], capture_output=True, text=True)
    assert done.stderr.strip().endswith("module 'minigrad' has no attribute 'conpile'. Did you mean: 'compile'?")


def test_import_defers_modules_unused_by_gradients():
    text = "import sys, minigrad; print(*(m for m in sys.modules if m.split('.')[0] in ('minigrad', 'opt_einsum')))"
    loaded = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split()
    assert {"minigrad.transforms.grad", "minigrad.numpy.products"} <= set(loaded)
    assert not {"minigrad.registry", "minigrad.ragged", "minigrad.numpy.fft", "minigrad.numpy.creation",
                "minigrad.transforms.microbatch", "minigrad.compiler", "minigrad.passes", "minigrad.backends",
                "minigrad.codec", "minigrad.random", "minigrad.report", "minigrad.testing", "minigrad.draw",
                "minigrad.explorer", "minigrad.optim", "minigrad.ragged.loader",
                "minigrad.backends.native.runtime.threads", "opt_einsum"} & set(loaded)


def test_compiling_a_gradient_of_products_loads_no_planner_of_contractions():
    text = ("import sys\nimport numpy as np\nimport minigrad as mg\n"
            "mean = mg.mean_loss(lambda w, x: np.sum(np.tanh(x @ w)), in_axes=(None, 0))\n"
            "mg.compile(mg.grad(mean), backend='numpy')(np.ones((3, 2)), np.ones((4, 3)))\n"
            "print('opt_einsum' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True,
                          check=True).stdout.strip() == "False"


def test_the_first_gradient_imports_no_kernel_that_its_program_lacks():
    pytest.importorskip("llvmlite")
    text = ("import sys\nimport numpy as np\nimport minigrad as mg\n"
            "step = mg.compile(mg.grad(lambda w, x: np.sum(np.tanh(x @ w))), backend='native')\n"
            "step(np.ones((3, 2)), np.ones((4, 3)))\n"
            "print(*(m for m in sys.modules if m.startswith(('minigrad.backends.native.kernels', 'numpy.poly'))))")
    loaded = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.split()
    names = {m.rpartition(".")[2] for m in loaded}
    assert {"steps", "gemm"} <= names
    assert not {"polynomial", "axis_kernels", "cholesky", "copies", "gather_scatter", "matrices", "philox", "segments",
                "trees", "triangular"} & names


def test_no_import_runs_in_a_circle():
    # A module does not depend on its own package's __init__, which runs first anyway.
    after = {m: {name for name, _, _ in imports_of(m) if own(name) and not m.startswith(f"{name}.") and name != m}
             for m in MODULES}
    tuple(graphlib.TopologicalSorter(after).static_order())


@pytest.mark.parametrize("module", ["transforms.vmap", "transforms.grad", "transforms.in_axes", "transforms.trace",
                                    "report.comparison", "testing.batching", "testing.gradients"])
def test_ragged_batches_plug_into_batching(module):
    names = {name for name, _, _ in imports_of(f"minigrad.{module}")}
    assert not [n for n in names if "ragged" in n]


def test_batching_and_derivatives_need_a_small_core():
    """`vmap` and `grad` can be read in one sitting: all else plugs into them (`minigrad.registry`)."""
    reached, new = set(), {"minigrad.transforms.vmap", "minigrad.transforms.grad"}
    while new:
        reached |= new
        new = {name for m in new for name, _, _ in imports_of(m, types=True) if own(name) and name in MODULES} - reached
    sources = [MODULES[m].read_text(encoding="utf-8") for m in reached]
    assert len(reached) <= 20, sorted(reached)
    assert sum(s.count("\n") for s in sources) <= 4000
    assert sum(map(lines_of_code, sources)) <= 2100


def lines_of_code(source: str) -> int:
    """Count the lines that run: no blanks, comments, docstrings or declarations of types."""
    words = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code = {row for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in words
            for row in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        match node:
            case (ast.Expr(value=ast.Constant(value=str())) | ast.AnnAssign(value=None)
                  | ast.If(test=ast.Name(id="TYPE_CHECKING"))):
                code -= {*range(node.lineno, node.end_lineno + 1)}
            case ast.FunctionDef(decorator_list=[ast.Name(id="overload") as decorator]):
                code -= {*range(decorator.lineno, node.end_lineno + 1)}
    return len(code)


def test_lines_of_code_leave_words_out():
    source = textwrap.dedent('''
        """A module.

        With text.
        """

        x = """a
        b"""  # a comment

        # another
        def f():
            """Return 1."""
            return 1

        class C:
            x: int

        if TYPE_CHECKING:
            import a

        @overload
        def g(x: int) -> int: ...
        ''')
    assert lines_of_code(source) == 5


@pytest.mark.parametrize("module", MODULES)
def test_functions_import_only_optional_or_slow_modules(module):
    for name, line, inside in imports_of(module):
        if inside:
            assert {name, name.split(".")[0]} & LAZY.keys() or about(name), (
                f"{module}, line {line}: imports {name} inside a function")


@pytest.mark.parametrize("module", [m for m in MODULES if m != "minigrad.cli"])  # it has one thread
def test_functions_hold_back_forks_while_they_import(module):
    """A forked child would wait for ever for a module that another thread was importing."""
    def unguarded(tree, inside=False):
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)) and inside:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                yield from (name for name in names if name.split(".")[0] not in NO_FORKS)
            guarded = isinstance(node, ast.With) and any("importing" in ast.unparse(w) for w in node.items)
            if not guarded:
                yield from unguarded(node, inside or isinstance(node, (ast.FunctionDef, ast.Lambda)))

    assert not [*unguarded(ast.parse(MODULES[module].read_text(encoding="utf-8")))]


def test_every_lazy_module_is_imported_inside_a_function():
    inside = {n for m in MODULES for name, _, late in imports_of(m) if late for n in (name, name.split(".")[0])}
    assert LAZY.keys() <= inside


def compared_names(source: str) -> set[str]:
    """Return the primitives' names that a source compares with a node's."""
    return {c.value for compare in ast.walk(ast.parse(source)) if isinstance(compare, ast.Compare)
            and re.search(r"(prim\.name\b|^name (==|!=|in|not in) )", ast.unparse(compare))
            for c in ast.walk(compare) if isinstance(c, ast.Constant) and c.value in PRIMITIVES}


def test_operations_are_named_where_they_are_declared():
    """What an operation does is read off its declaration: outside of `ops` few comparisons name one."""
    functions = ("numpy.reductions", "numpy.elementwise", "size_queries", "sizes")  # NumPy's, not primitives
    other = {f"minigrad.{m}" for m in functions}
    found = {m: names for m in MODULES if unit(m) != "ops" and m not in other
             and (names := compared_names(MODULES[m].read_text(encoding="utf-8")))}
    assert found == {m: names for m, (names, _) in NAMED.items()}


def test_comparisons_with_names_are_seen():
    assert compared_names("if n.prim.name == 'sum' or name in ('max', 'other'): pass") == {"sum", "max"}
    assert not compared_names("n.prim is sum_ and label == 'sum'")


@pytest.mark.parametrize("module", MODULES)
def test_modules_need_only_the_core_packages(module):
    for name, line, inside in imports_of(module):
        top = name.split(".")[0]
        assert inside or own(name) or top in CORE or top in sys.stdlib_module_names or top == about(module), (
            f"{module}, line {line}: needs {top}, which is not always installed")
        assert inside or not about(name) or about(module), f"{module}, line {line}: {name} is not always usable"


def test_the_reader_of_imports_sees_each_kind():
    source = """
import a.b
from . import interpreters
from ..symbolic import Dim
from .. import graph, __version__
def f():
    from ..numpy.dispatch import NAMES
    class C:
        import rich
"""
    assert imports(source, "minigrad.ops.control", False) == [
        ("a.b", 2, False), ("minigrad.ops", 3, False), ("minigrad.symbolic", 4, False), ("minigrad.graph", 5, False),
        ("minigrad", 5, False), ("minigrad.numpy.dispatch", 7, True), ("rich", 9, True)]
    assert imports("from .graph import Node", "minigrad", True) == [("minigrad.graph", 1, False)]
    source = "if TYPE_CHECKING:\n from .graph import Node\n import minigrad.explorer"
    assert imports(source, "minigrad", True) == []
    assert imports(source, "minigrad", True, types=True) == [("minigrad.graph", 2, False)]


def repeated_tests(source: str) -> list[str]:
    """Return the tests that a later one of the same name hides."""
    scopes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.Module, ast.ClassDef))]
    names = [collections.Counter(d.name for d in scope.body if isinstance(d, (ast.FunctionDef, ast.ClassDef)))
             for scope in scopes]
    return [name for scope in names for name, n in scope.items() if n > 1 and name.lower().startswith("test")]


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_test_hides_another(path):
    assert repeated_tests(path.read_text(encoding="utf-8")) == []


def test_a_hidden_test_is_found():
    assert repeated_tests("def test_a(): 1\nclass TestB:\n def test_a(self): 1\n") == []
    assert repeated_tests("def test_a(): 1\nclass TestB:\n def test_b(self): 1\n def test_b(self): 2\n"
                          "def test_a(): 2\n") == ["test_a", "test_b"]
