"""The table of steps: threads, targets, and statements that are not steps."""

import functools

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends, interpreters
from minigrad.backends.native.codegen import step_codegen
from minigrad.backends.native.kernels import axis_kernels, copies, gather_scatter, philox, run_lists, steps
from minigrad.backends.native.runtime import threads
from minigrad.combiners import ADD, FMAX, MAX
from minigrad.graph import Graph
from tests.backends.native.machine_code import TARGETS, compile_ir
from tests.passes.programs import input_, node

from .checks import same


@pytest.mark.usefixtures("finely_cut")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    u, i, j, k = input_(500, 70, dtype=dtype), input_(500, dtype="i8"), input_(500, dtype="i8"), input_(2, dtype="u4")
    narrow = [input_(500, *columns, dtype=dtype) for columns in ((), (1,), (3,), (4,), (7,))]
    outputs = [*(node(name, x, n, shape=(37, *x.shape[1:])) for name in ("scatter_add", "scatter_max") for n in (i, j)
                 for x in (u, *narrow)),
               node("concatenate", u, u, axis=1), node("pad", u, low=(1, 1), high=(2, 2), interior=(0, 0)),
               *(node(name, u, axis=a) for name in ("cumsum", "cummin", "argmax") for a in (0, 1)),
               node("random_bits", k, shape=(3000,), stream=0),
               node("scatter_add", u, i, i, shape=(37, 37, 70))]
    graph = Graph((u, i, j, k, *narrow), tuple(outputs))
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(500, 70)).astype(dtype), rng.integers(-37, 37, 500),
              np.sort(rng.integers(0, 37, 500)), np.array([1, 2], "u4"),
              *(rng.normal(size=x.shape).astype(dtype) for x in narrow)]
    program, before, found = backends.build(graph, "native"), threads.get_num_threads(), []
    wanted = interpreters.evaluate(graph, arrays)
    try:
        for n in (1, 2, 3, 7):
            threads.set_num_threads(n)
            have = program(arrays, {})
            found.append([a.tobytes() for a in have])
            for a, b in zip(have, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)  # sums of float32 pass through float64
    finally:
        threads.set_num_threads(before)
    assert found.count(found[0]) == len(found)

WRITERS = {
    "copy": functools.partial(copies._copy, 16), "clear": copies._clear, "random_bits": philox._random_bits,
    "position": functools.partial(gather_scatter._position, np.dtype("u2"), None, False),
    "place": functools.partial(gather_scatter._position, np.dtype("i4"), "place_or_null", True),
    "rows": functools.partial(gather_scatter._scatter_rows, MAX, np.dtype("f4"), np.dtype("f4"), True, False, False),
    **{name: functools.partial(gather_scatter._scatter_rows, ADD, np.dtype("f4"), np.dtype("f8"), True, True, weighted)
       for name, weighted in (("gathered rows", False), ("weighted rows", True))},
    "single": functools.partial(gather_scatter._scatter_single, ADD, np.dtype("i1"), np.dtype("i1"), False),
    "tally": run_lists._tally, "running_total": run_lists._running_total, "fill": run_lists._fill,
    "sums": functools.partial(axis_kernels._totals, ADD, np.dtype("f8")),
    "sums_of_rows": functools.partial(axis_kernels._totals_of_rows, ADD, np.dtype("f4")),
    "largest_so_far": functools.partial(axis_kernels._totals, FMAX, np.dtype("f4")),
    "place_in_row": functools.partial(axis_kernels._place_in_row, True, np.dtype("f4")),
    "places": functools.partial(axis_kernels._places, False, np.dtype("f8")),
    "short_rows": functools.partial(axis_kernels._places_in_short_rows, True, np.dtype("u1"))}


@pytest.mark.parametrize("name", WRITERS)
def test_steps_compile_for_other_machines(name):
    text = step_codegen.text(name, WRITERS[name])
    for machine in TARGETS.values():
        assert compile_ir(text, machine)


def test_statements_that_are_not_steps():
    x, i = input_(4, dtype="f2"), input_(4, dtype="i8")
    outputs = [node("cumsum", x, axis=0), node("scatter_add", x, i, shape=(3,)), node("argmax", x, axis=0)]
    assert [steps.unable(n) for n in outputs] == [f"{n.prim.name} of f16[4]" for n in outputs]
    program = same([x, i], outputs, [np.arange(4, dtype="f2"), np.array([0, 2, 2, 1])], native=False)
    assert "cumsum of f16" in str(program.stages[-1])
