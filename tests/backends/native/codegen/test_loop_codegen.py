"""Loops of one space: the axes that share a loop, the lanes, and the results on every number of elements."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad.backends.native.codegen import loop_codegen
from minigrad.backends.native.codegen.kernel import Writer, rows
from minigrad.backends.native.codegen.loop_codegen import LoopWriter
from minigrad.backends.native.llvm.values import I64
from minigrad.backends.native.runtime import jit
from minigrad.backends.numpy_text import managed
from minigrad.graph import Graph
from minigrad.ops.broadcast import broadcast_along
from minigrad.passes.schedule import schedule
from tests.passes.programs import input_, node

LENGTHS = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33]
COMPILED = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))


def written(inputs, output):
    """Return the loops of a program of one space."""
    plan = schedule(Graph(tuple(inputs), (output,)), managed, rows)
    (step,) = plan.steps
    writer = Writer(plan, step, "test")
    with writer.step("test"):
        writer.count = I64(6)
        (loop,) = writer.loops
        return LoopWriter(writer, loop)


def nest(inputs, output):
    """Return the axes of each loop of a program of one space, and the lanes."""
    loops = written(inputs, output)
    return [axis.axes for axis in loops.axes], loops.lanes


def products(rows, columns, dtype):
    """Return the outer products of two matrices' rows, and the matrices."""
    x, y = input_(6, rows, dtype=dtype), input_(6, columns, dtype=dtype)
    shape = (6, rows, columns)
    return node("mul", broadcast_along(x, shape, (2,)), broadcast_along(y, shape, (1,))), [x, y]


def test_contiguous_axes_share_a_loop():
    x = input_(6, 4, 5)
    assert nest([x], node("exp", x)) == ([(0, 1, 2)], 8)


def test_axes_of_one_element_have_no_loop():
    x = input_(6, 1, 5)
    assert nest([x], node("exp", x)) == ([(0, 2)], 8)


def test_axes_that_an_operand_repeats_along_have_a_loop_of_their_own():
    x, y = input_(6, 4, 5), input_(4, 5)
    assert nest([x, y], node("mul", x, broadcast_along(y, x.shape, (0,)))) == ([(0,), (1, 2)], 8)


def test_transposed_operands_separate_axes():
    x, y = input_(6, 9), input_(9, 6)
    assert nest([x, y], node("add", x, node("transpose", y, perm=(1, 0)))) == ([(0,), (1,)], 8)


@pytest.mark.parametrize(("axes", "loops"), [((1,), [(0,), (1,), (2,)]), ((1, 2), [(0,), (1, 2)]),
                                             ((2,), [(0, 1), (2,)])])
def test_reduced_axes_have_loops_of_their_own(axes, loops):
    x = input_(6, 4, 9)
    assert nest([x], node("sum", x, axes=axes))[0] == loops


@pytest.mark.parametrize(("length", "dtype", "lanes"), [(1, "f8", 8), (2, "f8", 2), (3, "f8", 4), (9, "f8", 8),
                                                        (9, "f4", 16), (4, "f4", 4)])
def test_lanes_fit_a_known_innermost_axis(length, dtype, lanes):
    x, y = input_(6, length, dtype=dtype), input_(length, 6, dtype=dtype)
    assert nest([x, y], node("add", x, node("transpose", y, perm=(1, 0))))[1] == lanes


@pytest.mark.parametrize(("rows", "columns", "dtype", "lines", "vectors"), [
    (8, 9, "f4", 8, 1), (8, 17, "f4", 8, 2), (8, 9, "f8", 8, 2), (9, 9, "f8", 0, 0), (17, 9, "f4", 0, 1)])
def test_matrices_of_up_to_sixteen_vectors_have_no_loop(rows, columns, dtype, lines, vectors):
    outer, inputs = products(rows, columns, dtype)
    loops = written(inputs, node("sum", outer, axes=(0,)))
    assert (loops.lines, loops.vectors) == (lines, vectors)


def test_matrices_of_functions_have_a_loop():
    outer, inputs = products(8, 9, "f4")
    assert written(inputs, node("sum", node("exp", outer), axes=(0,))).lines == 0


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("lines", "columns"), [(2, 5), (5, 3), (8, 9), (3, 16), (2, 17), (4, 33), (9, 9)])
@pytest.mark.parametrize("rows", [1, 33, 5000])
def test_sums_of_matrices_in_registers(rows, lines, columns, dtype):
    x, y = (np.arange(rows * n).reshape(rows, n) % 7 for n in (lines, columns))
    f = mg.compile(lambda x, y: ((x[:, :, None] * y[:, None]).sum(0), (x[:, :, None] - y[:, None]).max(0)),
                   backend="native")
    total, most = f(x.astype(dtype), y.astype(dtype))
    assert total.tolist() == (x.T @ y).tolist()
    assert most.tolist() == (x[:, :, None] - y[:, None]).max(0).tolist()


def test_vectors_run_along_results_of_a_few_terms():
    x = input_(6, 4, 20, 2)
    assert nest([x], node("sum", x, axes=(3,)))[0] == [(3,), (0, 1, 2)]
    assert nest([x], node("max", x, axes=(1, 3)))[0] == [(0,), (1,), (3,), (2,)]
    assert nest([x], node("sum", x, axes=(2, 3)))[0] == [(0, 1), (2, 3)], "the loop of 40 terms has vectors of them"
    many = input_(6, 4, 5)
    assert nest([many], node("sum", many, axes=(2,)))[0] == [(0, 1), (2,)]


@pytest.mark.parametrize("masks", [True, False])
def test_small_elements_are_vectors_where_a_mask_takes_no_branches(masks, monkeypatch):
    monkeypatch.setattr(loop_codegen, "masks_bytes", lambda: masks)
    for dtype in ("i1", "i2", "?"):
        x = input_(6, 20, 2, dtype=dtype)
        assert nest([x], node("max", x, axes=(2,)))[0] == ([(2,), (0, 1)] if masks else [(0, 1), (2,)])
    x = input_(6, 20, 2, dtype="f4")
    assert nest([x], node("max", x, axes=(2,)))[0] == [(2,), (0, 1)]


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i1", "?"])
@pytest.mark.parametrize("terms", [2, 3, 4])
def test_reductions_of_a_few_terms(terms, dtype):
    for n in LENGTHS:
        x = (np.arange(3 * n * terms) % 7 % 5).reshape(3, n, terms).astype(dtype)
        most, pooled = mg.compile(lambda x: (x.max(-1), x.max(axis=(0, 2))), backend="native")(x)
        assert most.tolist() == [[max(x[i, j].tolist()) for j in range(n)] for i in range(3)]
        assert pooled.tolist() == [x[:, j].max() for j in range(n)]
        total, square = mg.compile(lambda x: (x.sum(-1), (2.0 * x).sum(axis=(0, 2))), backend="native")(x)
        assert total.tolist() == [[sum(x[i, j].tolist()) for j in range(n)] for i in range(3)]
        assert square.tolist() == [2 * sum(x[:, j].ravel().tolist()) for j in range(n)]


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("columns", [17, 20, 33, 64, 65, 130])
@pytest.mark.parametrize("rows", [2, 33, 600])
def test_sums_of_columns_in_registers(rows, columns, dtype):
    """Accumulators of up to eight vectors stay in registers, and more lie in memory."""
    x = (np.arange(rows * columns) % 7).reshape(rows, columns)
    total, most = mg.compile(lambda x: (x.sum(0), (x * x).max(0)), backend="native")(x.astype(dtype))
    assert total.tolist() == x.sum(0).tolist()
    assert most.tolist() == (x * x).max(0).tolist()


@COMPILED
@pytest.mark.parametrize("n", LENGTHS)
def test_every_number_of_elements(n):
    x = np.arange(3.0 * n).reshape(3, n)
    rows, columns, double = mg.compile(lambda x: (x.sum(1), x.sum(0), x * 2 + x[::-1]), backend="native")(x)
    assert rows.tolist() == [r * n * n + n * (n - 1) // 2 for r in range(3)]
    assert columns.tolist() == [3 * n + 3 * k for k in range(n)]
    assert double.tolist() == [[2 * (r * n + k) + (2 - r) * n + k for k in range(n)] for r in range(3)]


@COMPILED
@pytest.mark.parametrize("n", LENGTHS)
def test_every_number_of_indices(n):
    x, index = np.arange(100.0) ** 2, np.arange(n) * 3
    result = mg.compile(lambda x, i: x[i] + 1, backend="native")(x, index)
    assert result.tolist() == [9 * k * k + 1 for k in range(n)]


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i2"])
@pytest.mark.parametrize("step", [2, 3, 4, 6, 7])
def test_elements_a_few_apart(step, dtype):
    for n in LENGTHS:
        x = np.arange(3 * step * n).reshape(3, step * n).astype(dtype)
        double, total = mg.compile(lambda x: (2 * x[:, 1::step], x[:, step - 1::step].sum(0)), backend="native")(x)
        assert double.tolist() == [[2 * (r * step * n + 1 + k * step) for k in range(n)] for r in range(3)]
        assert total.tolist() == [3 * (step * n + step - 1 + k * step) for k in range(n)]


@COMPILED
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i2"])
def test_elements_in_reverse(dtype):
    for n in LENGTHS:
        x = np.arange(3 * n).reshape(3, n).astype(dtype)
        double, total = mg.compile(lambda x: (2 * x[:, ::-1], x[:, ::-1].max(0)), backend="native")(x)
        assert double.tolist() == [[2 * (r * n + n - 1 - k) for k in range(n)] for r in range(3)]
        assert total.tolist() == [3 * n - 1 - k for k in range(n)]


@COMPILED
@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected by mprotect")
def test_no_element_outside_an_array_is_read():
    """The array ends or begins a page, and a load from the page before or the next one ends the process."""
    code = """
import ctypes, mmap
import numpy as np
import minigrad as mg
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 3 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for end in (0, 2):
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + end * page), ctypes.c_size_t(page), 0)
for step in (2, 3, 4, 6):
    f = mg.compile(lambda x: x[::step] * 2, backend="native")
    g = mg.compile(lambda x: x[:, ::step] * 2, backend="native")
    h = mg.compile(lambda x: x[::-1] * 2, backend="native")
    for n in (1, 2, 7, 8, 9, 15, 16, 17, 32, 33, 64):
        size = step * (n - 1) + 1
        x = np.frombuffer(memory, np.float32, size, 2 * page - 4 * size)
        y = np.frombuffer(memory, np.float32, 2 * size, 2 * page - 8 * size).reshape(2, size)
        assert f(x).tolist() == [0] * n
        assert g(y).tolist() == [[0] * n] * 2
        assert h(x[:n]).tolist() == [0] * n
        assert h(np.frombuffer(memory, np.float32, n, page)).tolist() == [0] * n
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
