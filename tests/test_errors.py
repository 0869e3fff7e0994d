"""Bad input: each a clear error with operation, shapes, the user's own line and a way out; and nothing left over."""

import gc
import math
import re
import sys
import types
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import format_location
from minigrad.tracing import thread, tracing

W = np.ones(3)
X = np.ones((5, 3))


def loss(w, x):
    return np.sum(w * x)


def add_in_place(w):
    out = np.ones(3)
    out += w
    return out


def set_in_place(w):
    out = np.ones(3)
    out[:2] = w[:2]
    return out


class Matrix:
    """Has of SciPy's sparse matrices what tells them apart."""

    tocoo = None


LEAKED = []


def leak(w):
    LEAKED.append(w)
    return np.sum(w)


def use_leaked(w):
    mg.grad(leak)(W)
    return np.sum(w * LEAKED.pop())


grad, vmap = mg.grad, mg.vmap

# (what the person wrote, the error, what its message says besides the line)
CASES = [
    # shapes
    (lambda: mg.trace(lambda w, x: x @ w)(mg.f32[512, 10], mg.f32[784]), mg.ShapeError,
     [r"matmul f32\[784\] @ f32\[512, 10\]: inner sizes differ \(784, 512\)"]),
    (lambda: mg.trace(lambda w, x: x @ w)(mg.f32[10, 784], mg.f32[784]), mg.ShapeError, ["Did you mean w.T?"]),
    (lambda: grad(lambda w: np.sum(w + np.ones(4)))(W), mg.ShapeError,
     [r"np.add: f64\[3\] and f64\[4\] do not broadcast: sizes differ \(3, 4\) at axis -1"]),
    (lambda: mg.trace(lambda a, b: a + b)(mg.f64[5, 3], mg.f64[5]), mg.ShapeError, [r"Did you mean b\[:, None\]"]),
    (lambda: grad(lambda w: np.concatenate([w, np.ones((2, 2))]).sum())(W), mg.ShapeError,
     [r"concatenate\(f64\[3\], f64\[2, 2\]\)"]),
    (lambda: grad(lambda w: np.stack([w, np.ones(2)]).sum())(W), mg.ShapeError, [r"np.stack: shapes differ"]),
    (lambda: grad(lambda w: w.reshape(1, [3]).sum())(W), mg.DtypeError, [r"whole numbers", r"got \[3\] in"]),
    (lambda: grad(lambda w: np.reshape(w, (3.0, 1)).sum())(W), mg.DtypeError, [r"whole numbers", r"got 3\.0 in"]),
    (lambda: grad(lambda w: w.reshape(2, 2).sum())(W), mg.ShapeError, [r"reshape\(f64\[3\]\)", r"\[2, 2\]"]),
    (lambda: grad(lambda w: w.sum(axis=1))(W), mg.ShapeError, ["no axis 1 in an array of 1 axes"]),
    (lambda: grad(lambda w: w.sum(axis="rows"))(W), mg.ShapeError, ["an axis is an int, not 'rows'"]),
    (lambda: grad(lambda w: w[5])(W), mg.ShapeError, [r"index 5 is out of range for axis 0 of f64\[3\]"]),
    (lambda: grad(lambda w: np.sum(w * [[1], [1, 2]]))(W), mg.ShapeError, ["a list that is not an array"]),
    # dtypes
    (lambda: grad(loss)(W.astype(complex), W), mg.DtypeError, ["argument w", "complex128", "real and imaginary"]),
    (lambda: grad(lambda w: np.sum(w * 1j))(W), mg.DtypeError, ["complex", "real and imaginary"]),
    (lambda: grad(lambda w: w.astype(complex).sum())(W), mg.DtypeError, ["complex128"]),
    (lambda: grad(lambda w: w.astype("float23").sum())(W), mg.DtypeError, ["float23"]),
    (lambda: grad(loss)(W.astype(object), W), mg.DtypeError, ["argument w", "object", r"np.asarray\(x, dtype=float\)"]),
    (lambda: grad(lambda w: np.sum(w * np.array([None, 1, 2], object)))(W), mg.DtypeError, ["object"]),
    (lambda: grad(lambda kind, w: np.sum(w))("relu", W), mg.GradError,
     [r"argument kind is 'relu', which is static", "argnums=1 is the first argument after it"]),
    (lambda: grad(lambda p: np.sum(p["w"]))({"w": W, "f": np.sum}), mg.GradError,
     [r"argument p\['f'\] is <function sum .*, which is static", "Pass it beside the parameters"]),
    (lambda: grad(lambda w, it: np.sum(w))(W, iter([1])), mg.DtypeError, ["argument it is a ", "functools.partial"]),
    (lambda: grad(lambda p: np.sum(p["a"]))({"a": W, "b": {1.0}}), mg.DtypeError, [r"argument p\['b'\] is a set"]),
    # numbers that are not known yet
    (lambda: grad(lambda w: w[0] if w[0] > 0 else w[1])(W), mg.TraceError,
     [r"truth of a traced value \(bool\[\]", "np.where"]),
    (lambda: grad(lambda w: np.sum(w * (w > 0 and w < 1)))(W), mg.TraceError,
     [r"`w > 0 and w < 1`", r"bool\[3\]", "np.logical_and"]),
    (lambda: grad(lambda w: max(w[0], w[1]))(W), mg.TraceError, ["truth of a traced value"]),
    (lambda: grad(lambda w: float(np.sum(w)))(W), mg.TraceError, [r"float\(\) of a traced value \(f64\[\]"]),
    (lambda: grad(lambda w: int(np.sum(w)))(W), mg.TraceError, [r"int\(\) of a traced value", r"astype\(int\)"]),
    (lambda: grad(lambda w: math.exp(w[0]))(W), mg.TraceError, [r"float\(\) of a traced value"]),
    (lambda: grad(lambda w: w.sum().item())(W), mg.TraceError, [r"item\(\) of a traced value"]),
    (lambda: grad(lambda w: w.tolist())(W), mg.TraceError, [r"tolist\(\)"]),
    (lambda: grad(lambda w: sum(range(w[0])))(W), mg.TraceError, [r"`range\(w\[0\]\)`", "mg.fori_loop"]),
    (lambda: grad(lambda w: np.array([w[0], 1.0]).sum())(W), mg.TraceError, [r"np.stack\(\[a, b\]\)"]),
    (lambda: vmap(lambda i: X[i])(np.array([0, 1])), mg.TraceError,
     [r"`X\[i\]`", r"minigrad\.numpy\.take\(x, i, axis=0\)"]),
    (lambda: grad(lambda w: (w.sum(), w))(W), mg.GradError, [r"returns 2 values.*Say has_aux=True for \(loss, aux\)"]),
    (lambda: mg.mean_loss(lambda x: (x.sum(), x))(X), mg.BatchError, [r"Say has_aux=True for \(loss, aux\)"]),
    (lambda: vmap(lambda x, *, y: x + y, in_axes=(0, None))(X, y=1.0), mg.BatchError,
     [r"in_axes has 2 entries.*1 positional argument and 1 by keyword \(y\).*in_axes=\{'y': 0\}"]),
    (lambda: vmap(lambda x, y: x + y, in_axes={"z": 0})(X, y=1.0), mg.BatchError,
     ["in_axes names 'z'; the arguments are called x, y"]),
    (lambda: vmap(lambda x, on: x)(X, [True, False]), mg.BatchError, ["on is a list of bools", "None in in_axes"]),
    (lambda: vmap(lambda mode: 1.0)("mean"), mg.BatchError, ["nothing is mapped: every argument is static"]),
    (lambda: mg.compile(lambda x, table: x)(X, {1, 2}), mg.DtypeError,
     ["argument table is a set, not an array", "can be hashed"]),
    (lambda: grad(lambda w, buffer: np.sum(w))(W, memoryview(bytearray(4))), mg.DtypeError,
     ["argument buffer is a memoryview, not an array"]),
    (lambda: mg.compile(lambda x, table: x, static_argnums=1)(X, W), mg.DtypeError,
     ["argument table is static, and a ndarray cannot be hashed"]),
    (lambda: mg.compile(lambda x, n: x, static_argnums="m"), mg.MinigradError, ["no argument 'm', but x, n"]),
    (lambda: mg.compile(lambda x, n: x, static_argnums=2), mg.MinigradError, ["no argument 2, but x, n"]),
    (lambda: mg.compile(lambda x, n: x, static_argnums=1.5), mg.MinigradError, ["positions .* or names"]),
    (lambda: mg.compile(lambda x, n: x, static_argnames="n"), mg.MinigradError,
     ["no option static_argnames", "static_argnums holds"]),
    (lambda: mg.grad(W), mg.MinigradError, ["grad: the first argument must be a function"]),
    (lambda: mg.optim.sgd(lambda step: 0.1), mg.DtypeError, ["rate must be a number", r"sgd\(schedule\(step\)\)"]),
    (lambda: mg.cond(True, W, -W), mg.TraceError,
     [r"cond: branch 0 is a value \(ndarray\)", r"mg\.cond\(condition, f"]),
    (lambda: vmap(lambda a, x: a @ x)(Matrix(), X), mg.DtypeError,
     [r"argument a is a Matrix", r"mg\.Sparse\.from_scipy"]),
    (lambda: grad(lambda w: w[w.sum() > 0].sum())(W), mg.TraceError, ["one traced bool", r"np.where\(flag, x, 0\)"]),
    (lambda: vmap(lambda w, i: w[::i], (None, 0))(W, np.array([0, 1])), mg.TraceError, ["step is traced", "np.arange"]),
    (lambda: grad(lambda w: sum(v for v in w.sum()))(W), mg.TraceError, ["iteration over a traced scalar"]),
    (lambda: grad(lambda w: np.polydiv(w, w)[0])(W), mg.TraceError, ["np.polydiv of a traced value", "on data"]),
    # arrays do not change
    (lambda: grad(lambda w: w.__setitem__(0, 1.0))(W), mg.TraceError,
     ["in-place assignment", r"x = np.where\(mask, new, x\)"]),
    (lambda: grad(add_in_place)(W), mg.TraceError, [r"x \+= y", r"Write x = x \+ y"]),
    (lambda: grad(set_in_place)(W), mg.TraceError, [r"np.asarray\(\) of a traced value"]),
    (lambda: grad(lambda w: np.exp(w, out=np.ones(3)).sum())(W), mg.TraceError, ["np.exp with out="]),
    (lambda: grad(use_leaked)(W), mg.TraceError, ["used outside the function that it was traced in"]),
    # in_axes and batches
    (lambda: vmap(loss, (0,))(X, X), mg.BatchError, [r"vmap\(loss\): in_axes has 1 entry, but there are 2"]),
    (lambda: vmap(loss, ({"a": 0}, 0))({"b": X}, X), mg.BatchError, [r"in_axes of vmap\(loss\)", "does not fit"]),
    (lambda: vmap(loss, (0.5, 0))(X, X), mg.BatchError, ["an axis must be an int or None, got 0.5"]),
    (lambda: vmap(loss, (0, 2))(X, X), mg.BatchError, [r"x: f64\[5, 3\] has no axis 2"]),
    (lambda: vmap(loss)(X, 2.0), mg.BatchError, [r"x: f64\[\] has no axis 0", "Say None in in_axes"]),
    (lambda: vmap(loss, None)(X, X), mg.BatchError, ["nothing is mapped"]),
    (lambda: vmap(loss)(X, X[:4]), mg.BatchError,
     [r"batch sizes differ: 5 \(axis 0 of w: f64\[5, 3\]\) and 4 \(axis 0 of x: f64\[4, 3\]\)", "None in in_axes"]),
    (lambda: mg.trace(loss)(mg.f32, mg.bool_), mg.ShapeError, [r"mg.f32 has no shape: write mg.f32\[\(\)\]"]),
    (lambda: mg.trace(loss)(X, mg.bool_), mg.ShapeError, [r"mg.bool_ has no shape: write mg.bool_\[\(\)\]"]),
    (lambda: mg.compile(X), mg.MinigradError, ["compile: the first argument must be a function, got array"]),
    (lambda: grad(lambda w: w[0.5 * w[0]])(W), mg.DtypeError, [r"an index must be an integer array.*\.astype\(int\)"]),
    (lambda: vmap(lambda p: p["a"])({"a": X, "b": X[:4]}), mg.BatchError,
     [r"p\['a'\]: f64\[5, 3\].*p\['b'\]: f64\[4, 3\]"]),
    (lambda: mg.mean_loss(loss)(X, X[:4]), mg.BatchError, ["batch sizes differ: 5 .*of w.* and 4 .*of x"]),
    (lambda: vmap(lambda x: x, out_axes=2)(X), mg.BatchError, ["out_axes 2, but the result has 2 axes"]),
    (lambda: vmap(lambda x: x, out_axes=(0, 0))(X), mg.BatchError, [r"out_axes of vmap", "does not fit"]),
    (lambda: vmap(lambda x: x, out_axes=None)(X), mg.BatchError, ["differs from example to example"]),
    (lambda: vmap(loss)(X[:0], X[:0]), mg.BatchError, [r"an empty batch: w: f64\[0, 3\]"]),
    (lambda: mg.mean_loss(loss, (None, 0))(W, X[:0]), mg.BatchError, [r"an empty batch: x: f64\[0, 3\]"]),
    (lambda: mg.microbatch(mg.mean_loss(loss, (None, 0)), 2)(W, X[:0]), mg.BatchError, ["an empty batch: x"]),
    (lambda: mg.mean_loss(lambda w, x: w * x, (None, 0))(W, X), mg.BatchError,
     [r"f64\[5, 3\]", "Sum or average it within"]),
    (lambda: mg.mean_loss(lambda w, x: (x[0], x[1]), (None, 0))(W, X), mg.BatchError, ["one floating number"]),
    (lambda: mg.unroll(loss, 4, (None, 0))(W, X), mg.BatchError, [r"unroll\(loss, 4\): the batch has 5 examples"]),
    (lambda: mg.unroll(loss, 0, (None, 0))(W, X), mg.BatchError, ["n must be a positive int, got 0"]),
    # derivatives
    (lambda: grad(lambda w: w)(W), mg.GradError, [r"it returns f64\[3\]", "Sum or average", "mg.jacobian"]),
    (lambda: grad(lambda w: np.argmax(w))(W), mg.GradError, [r"it returns i64\[\]", "no derivative"]),
    (lambda: grad(lambda w: (w[0], w[1]))(W), mg.GradError, ["it returns 2 values", "has_aux=True"]),
    (lambda: grad(lambda w: w[0], has_aux=True)(W), mg.GradError, [r"must return \(loss, aux\)"]),
    (lambda: grad(lambda p: np.sum(p["a"]))({"a": W, "step": 3}), mg.GradError,
     [r"argument p\['step'\] is i64\[\]", r"astype\(float\)", "argnums"]),
    (lambda: grad(loss, 2)(W, W), mg.GradError, ["argnums 2, but there are 2 positional arguments"]),
    (lambda: grad(loss, "v")(W, W), mg.GradError, ["no argument is called 'v'; there are w, x"]),
    (lambda: grad(loss, 1.5)(W, W), mg.GradError, [r"argnums must hold names and positions \(ints\), got 1.5"]),
    (lambda: mg.hessian(lambda w: np.argsort(w))(W), mg.GradError, ["hessian of .*not floating"]),
    (lambda: mg.hvp(loss, (W, W), (W, W), argnums=0), mg.ShapeError, ["2 tangents for 1 arguments"]),
    (lambda: mg.jvp(np.take, (W, np.array([1])), (W, np.array([1]))), mg.GradError,
     [r"argument .* is i64\[1\]", "the tangents, with None"]),
    (lambda: mg.jacobian(lambda w: np.argmax(w))(W), mg.GradError, ["not floating"]),
    (lambda: mg.jvp(loss, (W, W), (W,)), mg.ShapeError, ["the tangent has the structure"]),
    (lambda: mg.jvp(np.sum, (W,), (np.ones(4),)), mg.ShapeError, [r"expected f64\[3\], got f64\[4\]"]),
    (lambda: mg.vjp(lambda w: w * 2, W)[1](np.ones(4)), mg.ShapeError, ["the cotangent", r"expected f64\[3\]"]),
    # results and types
    (lambda: grad(lambda w: None)(W), mg.TraceError, ["returned None. Did you forget `return`"]),
    (lambda: vmap(lambda w: None)(X), mg.TraceError, ["returned None. Did you forget `return`"]),
    (lambda: mg.checkpoint(lambda w: None)(W), mg.TraceError, ["returned None"]),
    (lambda: grad(lambda w: "loss")(W), mg.DtypeError, ["returned a leaf that is not an array"]),
    (lambda: grad(loss)(mg.f64[3], W), mg.TraceError, [r"a type \(f64\[3\]\) where an array is needed"]),
    (lambda: mg.f32[-1], mg.ShapeError, ["a shape holds sizes, not -1"]),
    (lambda: mg.compile(loss, backend="abacus"), mg.MinigradError, ["no backend 'abacus'; there are"]),
]


@pytest.mark.parametrize(("wrong", "error", "says"), CASES, ids=range(len(CASES)))
def test_bad_input(wrong, error, says):
    """The right error at the right line, in the right words; and no state leaks into what comes after."""
    with pytest.raises(error) as caught:
        wrong()
    message = str(caught.value)
    assert isinstance(caught.value, mg.MinigradError)
    first = wrong.__code__.co_firstlineno
    where, _, text = message.partition(": ")
    file, _, line = where.partition(":")
    assert file == "test_errors.py", message
    helpers = [f.__code__ for f in (add_in_place, set_in_place, use_leaked, loss)]
    spans = [(first, first + 1), *((c.co_firstlineno, max(n for *_, n in c.co_lines() if n)) for c in helpers)]
    assert any(low <= int(line) <= high for low, high in spans), message
    for pattern in says:
        assert re.search(pattern, text), f"{pattern!r} is not in: {message}"
    everything_is_as_before()


def everything_is_as_before():
    assert not tracing()
    assert not vars(thread.trace.guards)
    np.testing.assert_allclose(mg.grad(mg.mean_loss(loss, (None, 0)))(W, X), np.ones(3))
    compiled = mg.compile(mg.mean_loss(loss, (None, 0)))
    assert [compiled(W, X[:n]) for n in (5, 2)] == [3.0, 3.0]
    node = mg.trace(loss)(W, W).outputs[0]
    assert node.rules == ()
    assert node.source is None


def test_the_line_is_that_of_the_users_code_however_deep():
    def inner(w, x):
        return np.sum(w @ np.ones((4, 2)) * x)

    line = inner.__code__.co_firstlineno + 1
    for call in (mg.trace(inner), mg.grad(inner), mg.vmap(inner, (None, 0)), mg.grad(mg.mean_loss(inner, (None, 0))),
                 mg.compile(mg.grad(mg.microbatch(mg.mean_loss(inner, (None, 0)), 2)))):
        with pytest.raises(mg.ShapeError, match=rf"^test_errors.py:{line}: matmul f64\[3\] @ f64\[4, 2\]"):
            call(W, X)


def test_an_error_of_the_person_passes_through_every_transform():
    def broken(w, x):
        raise KeyError("mine")

    for call in (mg.trace(broken), mg.grad(broken), mg.vmap(broken), mg.mean_loss(broken), mg.checkpoint(broken),
                 mg.compile(broken), mg.microbatch(mg.mean_loss(broken), 2), mg.jacobian(broken), mg.unroll(broken, 5)):
        with pytest.raises(KeyError, match="mine"):
            call(X, X)
        everything_is_as_before()


def test_an_attribute_that_traced_arrays_lack():
    with pytest.raises(AttributeError,
                       match=r"test_errors.py:\d+: x\.sort of a traced value: it writes into an array.*"
                                             r"Write x = np.sort\(x\)"):
        mg.grad(lambda w: w.sort())(W)
    with pytest.raises(AttributeError, match=r"a traced array \(f64\[3\]\) has no attribute 'kron'.*Write "
                                             r"np.kron\(x\)"):
        mg.grad(lambda w: w.kron())(W)
    assert mg.trace(lambda w: w * hasattr(w, "sort"))(W).check()
    for name, instead in ("relu", "np.maximum(x, 0)"), ("unsqueeze", "np.expand_dims(x, axis)"):
        with pytest.raises(mg.MinigradError, match=rf"has no attribute '{name}'\. Write {re.escape(instead)}\.$"):
            mg.grad(lambda w, name=name: getattr(w, name)())(W)
    with pytest.raises(mg.MinigradError, match=r"has no attribute 'x'\.$") as error:
        mg.grad(lambda w: w.x)(W)
    assert len(error.traceback) == 3  # this test, one frame of minigrad, and the function


def test_assigning_traced_value_into_numpy_array_shows_the_line():
    def f(w):
        out = np.ones(3)
        out[0] = w[0]  # NumPy itself raises here, and gives ours as the cause
        return out.sum()

    with pytest.raises(mg.TraceError, match=
                       r"test_errors.py:\d+: `out\[0\] = w\[0\]`.*of a traced value.*numpy\.at\(out\)"):
        mg.grad(f)(W)
    everything_is_as_before()


def test_a_value_that_is_wrong_only_when_the_program_runs_says_its_line():
    f = mg.vmap(lambda w, i: w[i], (None, 0))
    with pytest.raises(IndexError) as caught:
        f(W, np.array([0, 7]))
    assert any("test_errors.py" in note and "gather" in note for note in caught.value.__notes__)
    with pytest.raises(np.linalg.LinAlgError) as caught:
        mg.grad(lambda w: np.linalg.inv(np.outer(w, w)).sum())(W)
    assert any("test_errors.py" in note and "inv" in note for note in caught.value.__notes__)
    everything_is_as_before()


def test_grad_of_independent_result_is_zero():
    """A result that does not depend on the argument has a gradient of zeros, as documented."""
    np.testing.assert_array_equal(mg.grad(lambda w: 1.0)(W), np.zeros(3))
    np.testing.assert_array_equal(mg.grad(lambda a, b: np.sum(b))(W, W), np.zeros(3))


# -- size ----------------------------------------------------------------------------------------------------


def chain(n):
    def f(x):
        for _ in range(n):
            x = x * 0.5 + 1.0
        return x

    return f


def test_a_chain_of_a_hundred_thousand_nodes():
    """No walk is recursive: trace, check, print, differentiate, batch."""
    f = chain(25_000)
    graph = mg.trace(f)(mg.f64[()])
    assert graph.count() == 100_000
    assert graph.check() is graph
    assert str(graph).count("\n") >= 50_000  # constants stand in the lines of what uses them
    value, g = mg.value_and_grad(lambda x: f(x) + x)(3.0)
    assert value == pytest.approx(5.0)
    assert g == 1.0
    np.testing.assert_allclose(mg.vmap(f)(np.arange(2.0)), 2.0)


def test_a_long_chain_as_json_and_compiled():
    f = chain(5_000)
    graph = mg.trace(f)(mg.f64[()])
    assert str(mg.Graph.from_json(graph.to_json())) == str(graph)
    np.testing.assert_allclose(mg.compile(mg.vmap(f))(np.arange(2.0)), 2.0)


def test_lines_of_a_notebook_are_those_of_its_cells(monkeypatch):
    class Compiler:
        def format_code_name(self, name):
            return ("Cell", "In[3]") if name == "/tmp/ipykernel_7/1234.py" else None

    class Shell:
        compile = Compiler()

    def ipython(shell):
        module = types.ModuleType("IPython")
        module.get_ipython = lambda: shell
        monkeypatch.setitem(sys.modules, "IPython", module)

    ipython(Shell())
    assert format_location(("/tmp/ipykernel_7/1234.py", 2)) == "In[3]:2"
    assert format_location(("/home/me/model.py", 5)) == "model.py:5"
    for shell in (None, object()):  # outside of a notebook, and before IPython 8
        ipython(shell)
        assert format_location(("/tmp/ipykernel_7/1234.py", 2)) == "1234.py:2"


def test_code_that_python_compiles_is_not_kept():
    codes = []
    for _ in range(3):
        names = {}
        exec(compile("def f(x):\n    return x * x\n", "written", "exec"), names)
        assert mg.grad(names["f"])(3.0) == 6
        codes.append(weakref.ref(names.pop("f").__code__))
    gc.collect()
    assert [c() for c in codes[1:]] == [None, None]  # a bounded cache has the first of equal codes
