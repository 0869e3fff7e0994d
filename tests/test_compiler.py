"""compile: one program for any batch size, never a wrong answer, and nothing shared with the caller."""

import gc
import os
import signal
import sys
import threading
import weakref

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad import compiler

rng = np.random.default_rng(0)
W = np.array([1.0, 2.0, 0.5])


def loss(w, x):
    return np.sum((w * x) ** 2)


def losses(w, X):
    return mg.vmap(loss, (None, 0))(w, X)


def data(n):
    return np.arange(3.0 * n).reshape(n, 3) + 1


def same(have, want):
    """Assert equal pytrees: structure, types of scalars, dtypes, shapes, values."""
    assert optree.tree_structure(have) == optree.tree_structure(want)
    for h, w in zip(optree.tree_leaves(have), optree.tree_leaves(want), strict=True):
        assert np.asarray(h).dtype == np.asarray(w).dtype
        assert np.shape(h) == np.shape(w)
        np.testing.assert_allclose(h, w, rtol=1e-12, atol=1e-14)


# What is done with a batch of losses, in code that holds for any size of it.
ANY_SIZE = {
    "mean": lambda w, X: losses(w, X).mean(),
    "sum / size": lambda w, X: losses(w, X).sum() / X.shape[0],
    "1 / size": lambda w, X: losses(w, X).sum() * (1.0 / X.shape[0]),
    "half the size": lambda w, X: losses(w, X) * (X.shape[0] * 0.5),
    "root of the size": lambda w, X: losses(w, X) / np.sqrt(X.shape[0]),
    "power of the size": lambda w, X: losses(w, X) * X.shape[0] ** 0.5,
    "negative size": lambda w, X: losses(w, X) * -X.shape[0],
    "X.size": lambda w, X: losses(w, X) * X.size,
    "product of a shape": lambda w, X: losses(w, X) * np.prod(X.shape),
    "array of a shape": lambda w, X: losses(w, X) * np.array(X.shape)[0],
    "zeros": lambda w, X: losses(w, X) + mg.numpy.zeros(X.shape[0]),
    "zeros_like": lambda w, X: losses(w, X) + np.zeros_like(X)[:, 0],
    "arange": lambda w, X: losses(w, X) * mg.numpy.arange(X.shape[0]),
    "reshape": lambda w, X: losses(w, X).reshape(X.shape[0], 1) * X,
    "flatten": lambda w, X: (losses(w, X)[:, None] * X).reshape(-1),
    "flatten to a product": lambda w, X: (losses(w, X)[:, None] * X).reshape(X.shape[0] * 3),
    "other way round": lambda w, X: (losses(w, X)[:, None] * X).reshape(3, -1),
    "gram": lambda w, X: losses(w, X) @ (X @ X.T),
    "scatter matrix": lambda w, X: losses(w, X).sum() * (X.T @ X),
    "outer": lambda w, X: np.outer(losses(w, X), losses(w, X)),
    "kron": lambda w, X: np.kron(losses(w, X), w),
    "concatenate": lambda w, X: np.concatenate([losses(w, X), w]),
    "tile": lambda w, X: np.tile(losses(w, X), 2),
    "repeat": lambda w, X: np.repeat(losses(w, X), 2),
    "broadcast_to": lambda w, X: np.broadcast_to(w.sum(), (X.shape[0], 2)) * losses(w, X)[:, None],
    "sort": lambda w, X: np.sort(-losses(w, X)),
    "cumsum": lambda w, X: np.cumsum(losses(w, X)),
    "std": lambda w, X: losses(w, X).std(),
    "batch variance": lambda w, X: np.var(X * losses(w, X)[:, None], axis=0),
    "hardest example": lambda w, X: X[np.argmax(losses(w, X))],
    "weighted": lambda w, X: np.average(X, axis=0, weights=losses(w, X)),
    "nested vmap": lambda w, X: mg.vmap(lambda x: mg.vmap(lambda y: (w * x * y).sum())(X))(X) * losses(w, X),
    "gradient": lambda w, X: mg.value_and_grad(mg.mean_loss(loss, (None, 0)))(w, X),
    "per-example gradients": lambda w, X: mg.per_example_grad(loss, in_axes=(None, 0))(w, X),
    "microbatch": lambda w, X: mg.grad(mg.microbatch(mg.mean_loss(loss, (None, 0)), 2))(w, X),
    "microbatch, other way round": lambda w, X: mg.microbatch(mg.value_and_grad(mg.mean_loss(loss, (None, 0))), 2,
                                                              (None, 0))(w, X),
    "checkpoint": lambda w, X: mg.grad(mg.mean_loss(mg.checkpoint(loss), (None, 0)))(w, X),
    "hessian": lambda w, X: mg.hessian(mg.mean_loss(loss, (None, 0)))(w, X),
}
# The same, in code that asks for the number, or in which the number decides what is done.
NUMBER = {
    "len": lambda w, X: losses(w, X) / len(X),
    "if size > 3": lambda w, X: losses(w, X) * (2 if X.shape[0] > 3 else 1),
    "if size - 1": lambda w, X: losses(w, X) * (2 if X.shape[0] - 1 else 1),
    "size in a tuple": lambda w, X: losses(w, X) * (2 if X.shape[0] in (1, 5) else 1),
    "size == 3": lambda w, X: losses(w, X) * (2 if X.shape[0] == 3 else 1),
    "size == another": lambda w, X: losses(w, X) * (2 if X.shape[0] == X.shape[1] else 1),
    "shape == tuple": lambda w, X: losses(w, X) * (2 if X.shape == (5, 3) else 1),
    "size as a key": lambda w, X: losses(w, X) * {1: 7.0, 5: 8.0}.get(X.shape[0], 9.0),
    "range": lambda w, X: sum(losses(w, X)[i] for i in range(X.shape[0])),
    "iteration": lambda w, X: sum(losses(w, X)),
    "int": lambda w, X: losses(w, X) * int(X.shape[0]),
    "int of a half": lambda w, X: losses(w, X) * int(X.shape[0] / 2),
    "if a half": lambda w, X: losses(w, X) * (2 if X.shape[0] / 2 > 2 else 1),
    "floor division": lambda w, X: losses(w, X) * (X.shape[0] // 2) * (2 ** X.shape[0]) * (7 % X.shape[0]),
    "divmod": lambda w, X: losses(w, X) * divmod(X.shape[0], 2)[1],
    "max": lambda w, X: losses(w, X) * max(X.shape[0], 3),
    "NumPy's zeros": lambda w, X: losses(w, X) + np.zeros(X.shape),
    "NumPy's arange": lambda w, X: losses(w, X) + np.arange(X.shape[0]),
    "rows by arange": lambda w, X: X[np.arange(X.shape[0]), (X[:, 0] * 0).astype(int)] * losses(w, X),
    "linspace": lambda w, X: np.linspace(0, 1, X.shape[0]) * losses(w, X),
    "eye": lambda w, X: np.eye(X.shape[0]) @ losses(w, X),
    "squeeze": lambda w, X: np.squeeze(losses(w, X)) * 1.0,
    "first": lambda w, X: losses(w, X)[0],
    "last": lambda w, X: losses(w, X)[-1],
    "head": lambda w, X: losses(w, X)[:3],
    "tail": lambda w, X: losses(w, X)[1:] - losses(w, X)[:-1],
    "reverse": lambda w, X: losses(w, X)[::-1],
    "median": lambda w, X: np.median(losses(w, X)),
    "prod": lambda w, X: np.prod(losses(w, X)),
    "roll": lambda w, X: np.roll(losses(w, X), 1),
    "diff": lambda w, X: np.diff(losses(w, X)),
    "pad": lambda w, X: np.pad(losses(w, X), 1),
    "diag": lambda w, X: np.diag(losses(w, X)),
    "repeat as often": lambda w, X: np.repeat(w.sum(), X.shape[0]) + losses(w, X),
    "split": lambda w, X: np.concatenate(np.split(losses(w, X), [2])[::-1]),
    "static 5": lambda w, X: losses(w, X) + np.ones(5),
    "static 3": lambda w, X: losses(w, X) * w,
    "stack": lambda w, X: np.stack([losses(w, X), w]),
    "where": lambda w, X: np.where(losses(w, X) > 100, w, 0),
    "product with itself": lambda w, X: losses(w, X).sum() * (X @ X),
    "mask": lambda w, X: losses(w, X)[np.array([True, False, True])],
}
ORDERS = [(5, 1, 3, 2, 5), (1, 5, 3, 1), (3, 1, 5, 2, 3)]


@pytest.mark.parametrize("sizes", ORDERS, ids=str)
@pytest.mark.parametrize("name", [*ANY_SIZE, *NUMBER])
def test_compiled_equals_uncompiled_for_every_batch_size(name, sizes):
    """In every order of batch sizes; where plain NumPy would fail, so does the compiled function."""
    f = {**ANY_SIZE, **NUMBER}[name]
    compiled = mg.compile(f)
    for n in sizes:
        try:
            want = f(W, data(n))
        except (ValueError, IndexError):
            with pytest.raises(mg.MinigradError):
                compiled(W, data(n))
            continue
        same(compiled(W, data(n)), want)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_one_trace_serves_every_batch_size(name):
    traces = []

    def counted(w, X):
        traces.append(X.shape)
        return ANY_SIZE[name](w, X)

    compiled = mg.compile(counted)
    compiled(W, data(4))
    first = len(traces)
    for n in (1, 3, 7, 2, 50):
        compiled(W, data(n))
    assert len(traces) == first <= 2
    assert len(compiled.entries) == 1
    assert "for every B" in compiled.stages[0].note


def test_code_that_needs_the_number_says_so_with_its_line():
    def f(w, X):
        return losses(w, X) * len(X)

    compiled = mg.compile(f)
    compiled(W, data(4))
    line = f.__code__.co_firstlineno + 1
    assert f"axis 0 of X is fixed at 4: the code at test_compiler.py:{line} needs its number" in compiled.stages[0].note
    compiled(W, data(6))
    assert len(compiled.entries) == 2


def test_a_size_that_meets_one_whose_number_is_needed_is_fixed_too():
    compiled = mg.compile(lambda x, y: (mg.vmap(np.sin)(x) + mg.vmap(np.cos)(y)).sum() + np.zeros(x.shape[0]).sum())
    x, y = np.ones((3, 2)), np.zeros((3, 2))
    np.testing.assert_allclose(compiled(x, y), 6 * (np.sin(1) + 1))
    assert "axis 0 of x is fixed at 3" in compiled.stages[0].note
    assert "axis 0 of y is fixed at 3" in compiled.stages[0].note


def test_two_batch_axes_of_different_size():
    compiled = mg.compile(lambda X, Y: (mg.vmap(np.sum)(X).mean() * mg.vmap(np.max)(Y), X.shape[0] + Y.shape[0]))
    for n, m in ((4, 4), (4, 6), (6, 4), (1, 5), (5, 1), (1, 1)):
        X, Y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        have = compiled(X, Y)
        np.testing.assert_allclose(have[0], X.sum(1).mean() * Y.max(1))
        assert have[1] == n + m
    assert len(compiled.entries) == 1


@pytest.mark.parametrize("sizes", [[(4, 4), (4, 6), (1, 4), (4, 1), (6, 6)], [(1, 4), (4, 4), (1, 1), (4, 1)]], ids=str)
def test_two_batch_axes_that_meet(sizes):
    """Sizes that are equal by chance, and where one of them is 1 and broadcasts."""

    def f(X, Y):
        return mg.vmap(np.sum)(X) * mg.vmap(np.max)(Y)

    compiled = mg.compile(f)
    for n, m in sizes:
        X, Y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        if n != m and 1 not in (n, m):
            with pytest.raises(mg.ShapeError, match="do not broadcast"):
                compiled(X, Y)
        else:
            same(compiled(X, Y), f(X, Y))


def test_batches_that_differ_are_refused_after_equal_ones():
    compiled = mg.compile(lambda X, Y: mg.vmap(lambda x, y: (x * y).sum())(X, Y))
    compiled(data(4), data(4))
    with pytest.raises(mg.BatchError, match=r"batch sizes differ: 4 .*x.* and 5 .*y"):
        compiled(data(4), data(5))
    same(compiled(data(5), data(5)), (data(5) ** 2).sum(1))


@pytest.mark.parametrize("order", [(4, 0, 4), (0, 4)])
def test_an_empty_batch_is_refused(order):
    compiled = mg.compile(losses)
    for n in order:
        if n:
            same(compiled(W, data(n)), losses(W, data(n)))
        else:
            with pytest.raises(mg.BatchError, match=r"empty batch: [Xx]"):
                compiled(W, data(n))


@pytest.mark.parametrize("change", [
    lambda X: X.astype("f4"), lambda X: X.astype(int), lambda X: X[:, :2], lambda X: X.astype(bool),
    lambda X: X.astype("f2")], ids=["float32", "int", "static shape", "bool", "float16"])
def test_another_dtype_or_static_shape_is_another_program(change):
    def f(X):
        return mg.vmap(lambda x: np.sum(x * 2, axis=0))(X)

    compiled = mg.compile(f)
    for X in (data(4), change(data(4)), change(data(6)), data(6)):
        same(compiled(X), f(X))
    assert len(compiled.entries) == 2


def of_length(n):
    return np.arange(1.0, n + 1)


def lengths(compiled):
    return [e.graph.inputs[0].shape[0] for e in compiled.entries]


def squares(x):
    return np.sum(x**2) + len(x)


def test_the_program_unused_for_longest_goes():
    compiled = mg.compile(squares, maxsize=3)
    for n in (1, 2, 3):
        compiled(of_length(n))
    compiled(of_length(1))
    compiled(of_length(4))
    assert lengths(compiled) == [3, 1, 4]
    for n in (1, 3, 5, 2, 4, 1, 3):
        assert compiled(of_length(n)) == squares(of_length(n))
        assert lengths(compiled)[-1] == n
        assert len(compiled.entries) == sum(map(len, compiled._entries.values())) == 3
        assert {e for e, *_ in compiled._bound.values()} <= set(compiled.entries)


def test_a_dropped_program_leaves_memory():
    compiled = mg.compile(squares, maxsize=2)
    compiled(of_length(3))
    entry = weakref.ref(compiled.entries[0])
    for n in range(4, 8):
        compiled(of_length(n))
    gc.collect()
    assert entry() is None


def test_the_bound_of_programs_is_documented_and_checked():
    assert str(compiler.MAXSIZE) in mg.compile.__doc__
    everything = mg.compile(squares, maxsize=None, backend="numpy")
    for n in range(1, compiler.MAXSIZE + 3):
        everything(of_length(n))
    assert len(everything.entries) == compiler.MAXSIZE + 2
    for wrong in (0, -1, 2.0, True, "3"):
        with pytest.raises(mg.MinigradError, match=r"test_compiler.py:\d+: maxsize must be an int of at least 1"):
            mg.compile(squares, maxsize=wrong)


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_dropping_a_program_while_other_threads_run_it(backend):
    compiled = mg.compile(lambda x: np.sum(np.sin(x) ** 2) + np.sum(np.cos(x) ** 2), maxsize=1, backend=backend)
    wrong, barrier = [], threading.Barrier(4)

    def work(seed):
        barrier.wait()
        for n in np.random.default_rng(seed).integers(1, 6, 40):
            value = compiled(of_length(n))
            if not np.isclose(value, n):
                wrong.append((n, value))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(compiled.entries) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the size is read from /proc")
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_compiling_one_program_again_takes_no_memory(backend):
    def work(times):
        for _ in range(times):
            mg.compile(mg.value_and_grad(mg.mean_loss(loss, (None, 0))), backend=backend)(W, data(4))
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    # Memory settles after some hundred programs, in steps of the allocator's; a leak adds to every window.
    sizes = [work(80)]
    for _ in range(8):
        sizes.append(work(160))
        if (sizes[-1] - sizes[-2]) / 160 < 4000:
            return
    raise AssertionError(f"every window of 160 programs adds 4 kB each: {sizes}")


def test_another_structure_is_another_program():
    def f(p, X):
        return mg.vmap(lambda p, x: sum(np.sum(v * x) for v in optree.tree_leaves(p)), (None, 0))(p, X)

    compiled = mg.compile(f)
    trees = [{"a": W}, {"a": W, "b": W}, [W], (W, [W, None]), {"a": [W]}, W]
    for p in trees * 2:
        same(compiled(p, data(4)), f(p, data(4)))
    assert len(compiled.entries) == len(trees)


@pytest.mark.parametrize("make", [
    lambda X: X[::-1], lambda X: np.asfortranarray(X), lambda X: X[:, ::-1], lambda X: np.repeat(X, 2, 0)[::2],
    lambda X: np.broadcast_to(X[:1], X.shape), lambda X: X.astype(">f8"), lambda X: X.T.copy().T,
    lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    lambda X: np.ndarray(X.shape, buffer=b"\0" + X.tobytes(), offset=1)],
    ids=["reversed", "Fortran", "columns reversed", "strided", "broadcast", "big-endian", "transposed", "read-only",
         "unaligned"])
def test_layouts_of_the_input(make):
    """However an argument lies in memory, it is read right and never written to."""

    def f(w, X):
        return mg.value_and_grad(mg.mean_loss(lambda w, x: np.tanh(w * x) @ w, (None, 0)))(w, X)[1], X * 2

    compiled = mg.compile(lambda w, X: (f(w, X), losses(w, X)))
    X = make(data(6))
    before = X.copy()
    for _ in range(2):
        have = compiled(W, X)
        want = f(W, np.ascontiguousarray(before, "f8")), losses(W, np.ascontiguousarray(before, "f8"))
        same(have, want)
        np.testing.assert_array_equal(X, before)


def test_results_belong_to_the_caller():
    """Neither a later call, nor writing to a result, an argument or another result, changes a result."""
    compiled = mg.compile(lambda w, X: {"w": w, "X": X, "again": X, "T": X.T, "l": losses(w, X), "c": np.ones(3) * 1,
                                        "view": X[1:], "zero": np.zeros_like(X), "wide": np.broadcast_to(w, (2, 3))})
    w, X = W.copy(), data(4)
    first = compiled(w, X)
    copy = optree.tree_map(np.copy, first)
    for value in optree.tree_leaves(compiled(w + 1, X + 1)):
        value[...] = -1
    w[...], X[...] = -2, -2
    same(first, copy)
    for key, value in first.items():
        value[...] = -3
        same({k: v for k, v in first.items() if k != key and v.ravel()[0] != -3},
             {k: v for k, v in copy.items() if k != key and first[k].ravel()[0] != -3})
        for other, v in first.items():
            assert other == key or not np.shares_memory(v, value)
    same(compiled(W, data(4)), copy)


def test_python_numbers_come_back_as_such_and_scalars_as_numpys():
    compiled = mg.compile(lambda step, rate, X: (step + 1, rate * 0.5, X.sum(), step > 3))
    out = compiled(2, 0.5, data(2))
    assert [type(x) for x in out[:3]] == [int, float, np.float64]
    assert out == (3, 0.25, 21.0, False)
    assert compiled(7, 0.5, data(2))[3]
    assert len(compiled.entries) == 1
    assert type(compiled(2.0, 1, data(2))[0]) is float
    assert len(compiled.entries) == 2


def test_a_closure_array_is_a_constant_of_the_program():
    table = np.arange(6.0).reshape(2, 3)
    compiled = mg.compile(lambda i: mg.numpy.take(table, i, axis=0) + table.sum())
    same(compiled(np.array([1, 0])), table[[1, 0]] + 15)


def test_an_output_that_is_constant():
    compiled = mg.compile(lambda x: (np.ones(2), 3, 2.5, x, None, []))
    same(compiled(W), (np.ones(2), 3, 2.5, W, None, []))


def test_no_arguments_and_keywords():
    assert mg.compile(lambda: np.float64(2.0) + 1)() == 3
    compiled = mg.compile(lambda w, *, X: losses(w, X))
    same(compiled(W, X=data(3)), losses(W, data(3)))
    same(compiled(W, X=data(5)), losses(W, data(5)))
    same(compiled(X=data(5), w=W), losses(W, data(5)))


def test_compiled_inside_a_trace_and_another_compiled():
    inner = mg.compile(losses)
    same(mg.grad(lambda w: inner(w, data(4)).sum())(W), mg.grad(lambda w: losses(w, data(4)).sum())(W))
    outer = mg.compile(lambda w, X: inner(w, X).mean())
    for n in (4, 2):
        assert outer(W, data(n)) == pytest.approx(losses(W, data(n)).mean())


def test_from_several_threads_with_different_batch_sizes():
    """The first calls race for the trace, and later ones for the buffers."""
    traces = []

    def f(w, X):
        traces.append(1)
        return mg.value_and_grad(mg.mean_loss(lambda w, x: np.sum(np.tanh(w * x)) ** 2, (None, 0)))(w, X)

    compiled, errors = mg.compile(f), []
    wants = {n: f(W, data(n) / n) for n in range(1, 9)}
    start, traced = threading.Barrier(8), len(traces)

    def work(n):
        try:
            start.wait(120)
            for _ in range(60):
                same(compiled(W, data(n) / n), wants[n])
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in wants]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    assert len(traces) - traced == 2
    assert len(compiled.entries) == 1


def test_after_an_error_in_the_traced_function_the_next_call_works():
    broken = [True]

    def f(w, X):
        out = losses(w, X)
        if broken[0]:
            raise ZeroDivisionError("the user's own")
        return out

    compiled = mg.compile(f)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="the user's own"):
            compiled(W, data(3))
    broken[0] = False
    same(compiled(W, data(3)), losses(W, data(3)))


def test_build_takes_types():
    compiled = mg.compile(losses)
    entry = compiled.build(mg.f64[3], mg.f64[8, 3])
    assert compiled.graph is entry.graph
    assert "def " in compiled.source
    same(compiled(W, data(5)), losses(W, data(5)))
    assert len(compiled.entries) == 1


def test_program_attributes_need_a_first_call():
    compiled = mg.compile(losses)
    assert "losses" in repr(compiled)
    for name in ("graph", "stages", "source"):
        with pytest.raises(mg.MinigradError, match=r"test_compiler.py:\d+: losses has not been called yet"):
            getattr(compiled, name)
    with pytest.raises(mg.MinigradError, match="no backend 'gpu'; there are"):
        mg.compile(losses, backend="gpu")


class Wrapped:
    """Anything that NumPy can make an array of."""

    def __init__(self, value):
        self.value = value

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.value, dtype)


def test_other_kinds_of_arrays():
    compiled = mg.compile(lambda x: x * 2 + x.shape[0])
    for value in (np.ones(2), np.ones(3), np.ones(3, "f4"), np.ones((3, 1))):
        same(compiled(Wrapped(value)), value * 2 + value.shape[0])
    same(mg.compile(lambda x: x * 2)(np.float32(2)), np.float32(4))
    same(mg.compile(lambda x: x + 1)(2 ** 40), 2 ** 40 + 1)


@pytest.mark.parametrize("make", [lambda X: np.ma.array(X, mask=X > 5), lambda X: X.view(np.matrix)],
                         ids=["masked", "matrix"])
def test_arrays_of_another_arithmetic_are_refused(make):
    compiled = mg.compile(lambda x: x * 2)
    same(compiled(data(2)), data(2) * 2)
    for f in (compiled, mg.vmap(lambda x: x * 2)):
        with pytest.raises(mg.DtypeError, match=r"argument x, .* would be lost. Pass np.asarray\(x\)"):
            f(make(data(2)))


def test_a_python_int_too_large_for_any_dtype():
    with pytest.raises(mg.DtypeError, match="too large for any dtype"):
        mg.compile(lambda n: n + 1)(2 ** 70)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_calls_a_function_that_another_thread_was_compiling():
    tracing, go, parent = threading.Event(), threading.Event(), os.getpid()

    def slow(x):
        if os.getpid() == parent:
            tracing.set()
            assert go.wait(120)
        return np.sum(x) * 2

    compiled = mg.compile(slow, backend="numpy")
    thread = threading.Thread(target=compiled, args=(np.ones(3),))
    thread.start()
    assert tracing.wait(120)
    child = os.fork()
    if not child:
        signal.alarm(120)
        os._exit(0 if compiled(np.ones(3)) == 6 and compiled(np.ones(4)) == 8 and len(compiled.entries) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    thread.join()
    assert compiled(np.ones(3)) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_the_collector_goes_on_after_all_and_in_children():
    tracing, go = threading.Event(), threading.Event()

    def slow(x):
        tracing.set()
        assert go.wait(120)
        return x + 1

    assert gc.isenabled()
    threads = [threading.Thread(target=lambda: mg.compile(slow, backend="numpy")(1.0)) for _ in range(2)]
    for t in threads:
        t.start()
    assert tracing.wait(120)
    mg.compile(lambda x: x * 2, backend="numpy")(1.0)
    assert not gc.isenabled(), "others are at it still"
    child = os.fork()
    if not child:
        mg.compile(lambda x: x * 3, backend="numpy")(1.0)
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    for t in threads:
        t.join()
    assert gc.isenabled()
