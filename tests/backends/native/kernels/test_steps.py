"""Native steps for any sizes compute what the reference evaluation does: every element, to the last bit."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

import minigrad as mg
from minigrad import backends, interpreters
from minigrad.backends.native.codegen import step_codegen
from minigrad.backends.native.kernels import axis_kernels, copies, gather_scatter, philox, steps
from minigrad.backends.native.runtime import jit, threads
from minigrad.combiners import ADD, FMAX, MAX
from minigrad.graph import Graph, Node, full
from minigrad.symbolic import Dim
from tests.passes.programs import input_, node

NUMBERS = ("f4", "f8", "i1", "i4", "i8", "u1", "u2", "u8")


def same(inputs, outputs, arrays, sizes=None, native=True):
    """Check outputs against the reference, bit by bit, and that Python had no part in them."""
    graph = Graph(tuple(inputs), tuple(outputs))
    program = backends.build(graph, "native")
    assert program.native or not native, str(program.stages[-1])
    assert program.source
    assert program.workspace_bytes(sizes or {}) >= 0
    with np.errstate(all="ignore"):
        wanted = interpreters.evaluate(graph, arrays, sizes or {})
    for have, want in zip(program(arrays, sizes or {}), wanted, strict=True):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        np.testing.assert_array_equal(have, want)
        if have.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(have) & ~np.isnan(have), np.signbit(want) & ~np.isnan(want))
    return program


def random_array(rng, shape, dtype):
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


@pytest.fixture
def finely_cut(monkeypatch):
    """Cut everything into small pieces, and hand all of them to the pool."""
    monkeypatch.setattr(step_codegen, "SERIAL", 0)
    for module, name, value in ((copies, "PIECE", 40), (philox, "_PIECE", 2),
                                (gather_scatter, "_PIECE", 40), (gather_scatter, "_COLUMNS", 160),
                                (axis_kernels, "_PIECE", 40), (axis_kernels, "_COLUMNS", 40)):
        monkeypatch.setattr(module, name, value)


def any_view(rng, x: Node) -> Node:
    """Return a view of `x` of as many axes, with other strides."""
    for _ in range(rng.integers(0, 4)):
        kind = rng.integers(0, 4)
        if kind == 0:
            x = node("transpose", x, perm=tuple(rng.permutation(x.ndim).tolist()))
        elif kind == 1:
            x = node("flip", x, axes=(int(rng.integers(0, x.ndim)),))
        elif kind == 2:
            start = tuple(int(rng.integers(0, n)) for n in x.shape)
            x = node("slice", x, start=start, stop=x.shape, step=tuple(rng.integers(1, 3, x.ndim).tolist()))
        else:
            axis = int(rng.integers(0, x.ndim))
            first = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
            x = node("slice", x, start=(0,) * x.ndim, stop=first, step=(1,) * x.ndim)
            shape = tuple(n for a, n in enumerate(first) if a != axis)
            x = node("expand", node("reshape", x, shape=shape), shape=(*shape[:axis], 4, *shape[axis:]), axes=(axis,))
    return x


# -- copies ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8", "?", "i2", "f2", "u1"]))
def test_concatenate_and_pad_views(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, rng.integers(1, 5)).tolist())
    x = input_(*shape, dtype=dtype)
    a, b = any_view(rng, x), any_view(rng, x)
    axis = int(rng.integers(0, a.ndim))
    low, high, interior = (tuple(rng.integers(0, 3, a.ndim).tolist()) for _ in range(3))
    outputs = [node("concatenate", a, a, axis=axis), node("pad", a, low=low, high=high, interior=interior)]
    if a.shape == b.shape:
        outputs.append(node("concatenate", a, b, full(1, a.shape, a.dtype), axis=axis))
    same([x], outputs, [random_array(rng, shape, "u1").astype(dtype)], native=dtype != "f2")


@pytest.mark.usefixtures("finely_cut")
@pytest.mark.parametrize("dtype", ["f8", "u1"])
def test_large_copies(dtype):
    rng = np.random.default_rng(0)
    x, y = input_(30, 40, 7, dtype=dtype), input_(30, 40, 600, dtype=dtype)
    outputs = [node("concatenate", x, y, x, axis=2), node("concatenate", x, x, axis=0),
               node("concatenate", x, x, axis=1), node("pad", y, low=(1, 2, 3), high=(3, 2, 1), interior=(0, 0, 0)),
               node("pad", x, low=(0, 0, 0), high=(0, 0, 0), interior=(1, 2, 3))]
    same([x, y], outputs, [random_array(rng, s, dtype) for s in ((30, 40, 7), (30, 40, 600))])


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_copies_of_a_batch(batch):
    size = Dim.new("B")
    x, y = input_(size, 3), input_(2 * size, 3)
    outputs = [node("concatenate", x, y, x, axis=0), node("pad", x, low=(0, 1), high=(0, 2), interior=(0, 1)),
               node("concatenate", x, x, axis=1)]
    arrays = [np.ones((batch, 3)), np.zeros((2 * batch, 3))]
    same([x, y], outputs, arrays, {size.symbol: batch})


# -- indices ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.sampled_from(NUMBERS), st.sampled_from(["i1", "i4", "i8", "u1", "u8"]))
def test_scatters(seed, dtype, index_dtype):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    shape = tuple(rng.integers(1, 8, count).tolist())
    trailing = tuple(rng.integers(1, 45, rng.integers(0, 3)).tolist())
    several = tuple(rng.integers(0, 9, rng.integers(0, 3)).tolist())
    u = input_(*several, *trailing, dtype=dtype)
    indices = [input_(*several, dtype=index_dtype) for _ in shape]
    low = 0 if index_dtype[0] == "u" else -1
    arrays = [random_array(rng, u.shape, dtype),
              *(rng.integers(low * n, n, several).astype(index_dtype) for n in shape)]
    if rng.random() < 0.5:
        arrays[1:] = [np.sort(a, axis=None).reshape(several) for a in arrays[1:]]
    outputs = [node(name, u, *indices, shape=(*shape, *trailing))
               for name in ("scatter_add", "scatter_max", "scatter_min")]
    same([u, *indices], outputs, arrays)


def test_scatter_of_views():
    rng = np.random.default_rng(0)
    u, i = input_(6, 9), input_(6, 9, dtype="i4")
    arrays = [rng.normal(size=(6, 9)), rng.integers(-4, 4, (6, 9)).astype("i4")]
    columns = node("transpose", u, perm=(1, 0))
    one = node("reshape", node("slice", i, start=(0, 2), stop=(6, 3), step=(1, 1)), shape=(6,))
    nine = node("reshape", node("slice", i, start=(1, 0), stop=(2, 9), step=(1, 1)), shape=(9,))
    outputs = [node("scatter_add", u, one, shape=(4, 9)), node("scatter_max", columns, nine, shape=(4, 6)),
               node("scatter_add", full(1.0, (6, 9), u.dtype), one, one, shape=(4, 4, 9)),
               node("scatter_add", columns, node("transpose", i, perm=(1, 0)), shape=(4,)),
               node("scatter_min", node("flip", u, axes=(0,)), node("flip", one, axes=(0,)), shape=(4, 9)),
               node("scatter_add", u, full(2, (6,), i.dtype), shape=(4, 9))]
    same([u, i], outputs, arrays)


def test_extremes_keep_nan():
    u, i = input_(5), input_(5, dtype="i8")
    outputs = [node(f"scatter_{k}", u, i, shape=(3,)) for k in ("max", "min")]
    same([u, i], outputs, [np.array([1.0, np.nan, 2.0, 0.5, -np.inf]), np.array([0, 0, 0, 1, 1])])


@pytest.mark.parametrize("name", ["scatter_add", "scatter_max", "gather"])
@pytest.mark.parametrize("bad", [4, -5, 2**62, -2**63])
def test_an_index_out_of_range_is_an_error(name, bad):
    i, j = input_(dtype="i8"), input_(dtype="i8")
    if name == "gather":
        x, arrays = input_(4, 2), [np.ones((4, 2))]
        inputs, result = [x, i], node(name, x, i)
    else:
        u, arrays = input_(3), [np.ones(3), np.array(1)]
        inputs, result = [u, j, i], node(name, u, j, i, shape=(2, 4, 3))
    program = backends.build(Graph(tuple(inputs), (result,)), "native")
    good = [*arrays, np.array(-1)]
    for _ in range(2):
        with pytest.raises(IndexError):
            program([*arrays, np.array(bad)], {})
        np.testing.assert_array_equal(program(good, {})[0], interpreters.evaluate(program._graph, good)[0])


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0)])
def test_nothing_has_no_elements_to_name(shape):
    x, i, size = input_(*shape), input_(dtype="i8"), Dim.new("B")
    u, k = input_(size, *shape[1:]), input_(size, dtype="i8")
    taken = backends.build(Graph((x, i), (node("gather", x, i),)), "native")
    added = backends.build(Graph((u, k), (node("scatter_add", u, k, shape=shape),)), "native")
    same([u, k], [node("scatter_add", u, k, shape=shape)], [np.ones((0, *shape[1:])), np.zeros(0, "i8")],
         {size.symbol: 0})
    for index in (0, 2, -1):
        given_ = [np.ones((1, *shape[1:])), np.array([index])]
        if -shape[0] <= index < shape[0]:
            assert taken([np.ones(shape), np.array(index)], {})[0].shape == shape[1:]
            assert added(given_, {size.symbol: 1})[0].shape == shape
            continue
        with pytest.raises(IndexError):
            taken([np.ones(shape), np.array(index)], {})
        with pytest.raises(IndexError):
            added(given_, {size.symbol: 1})


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8", "?", "i2", "f2"]))
def test_gather_by_single_indices(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, 4).tolist())
    x = input_(*shape, dtype=dtype)
    view = any_view(rng, x)
    i, j = input_(dtype="i4"), input_(dtype="u1")
    arrays = [random_array(rng, shape, "u1").astype(dtype), np.array(rng.integers(-1, 1), "i4"), np.array(0, "u1")]
    same([x, i, j], [node("gather", view, *k) for k in ((i,), (i, j), (i, j, i), (i, j, i, j))], arrays)


# -- along an axis ---------------------------------------------------------------------------------------------


def test_along_an_axis_of_one_number_repeated_and_turned():
    x = input_()
    turned = node("transpose", node("expand", x, shape=(2, 3), axes=(0, 1)), perm=(1, 0))
    same([x], [node("cumsum", turned, axis=0), node("argmax", turned, axis=1)], [np.array(2.0)])


@given(st.integers(0, 2**31), st.sampled_from([*NUMBERS, "?"]))
def test_along_an_axis(seed, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 60, rng.integers(1, 4)).tolist())
    x = input_(*shape, dtype=dtype)
    view = any_view(rng, x)
    array = (random_array(rng, shape, "f4") * 3).round().astype(dtype)  # with many equal ones
    if array.dtype.kind == "f" and rng.random() < 0.5:
        array[rng.random(shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf, -0.0])
    names = ["argmax", "argmin", "cummax", "cummin"]
    names += ["cumsum"] * (dtype != "?") + ["cumfmax", "cumfmin"] * (array.dtype.kind == "f")
    same([x], [node(name, v, axis=a) for name in names for v in (x, view) for a in range(v.ndim)], [array])


@pytest.mark.parametrize("n", [1, 31, 32, 47, 48, 49, 64, 200, 1001])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
def test_the_first_of_equals_and_the_first_nan(n, dtype):
    x = input_(3, n, dtype=dtype)
    outputs = [node(name, x, axis=1) for name in ("argmax", "argmin")]
    for at in {0, n // 3, n // 2, n - 1}:
        array = np.ones((3, n), dtype)
        array[0, at:] = 2
        array[1, at:] = 0
        array[2, at:] = np.nan if dtype[0] == "f" else 5
        same([x], outputs, [array])


def test_the_largest_of_nothing():
    size = Dim.new("B")
    x = input_(3, size)
    program = backends.build(Graph((x,), (node("argmax", x, axis=1),)), "native")
    with pytest.raises(ValueError, match="empty"):
        program([np.zeros((3, 0))], {size.symbol: 0})
    same([x], [node("argmax", x, axis=0), *(node(name, x, axis=a) for name in ("cumsum", "cummax") for a in (0, 1))],
         [np.zeros((3, 0))], {size.symbol: 0})


# -- random bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 3, 4, 5, 63, 64, 65, 1000, 70_001])
def test_random_bits(total):
    one, many = input_(2, dtype="u4"), input_(2, 5, dtype="u4")
    bits = [node("random_bits", k, shape=(total,), stream=s)
            for k in (one, node("transpose", many, perm=(1, 0))) for s in (0, 2**32 - 1)]
    rng = np.random.default_rng(total)
    same([one, many], bits, [rng.integers(0, 2**32, s, dtype="u4") for s in ((2,), (2, 5))])


# -- threads, machines, scans ----------------------------------------------------------------------------------


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


def test_a_scan_over_such_steps_runs_without_python():
    def f(x, i):
        def step(h, row):
            picked = h[row]
            h = np.concatenate([h[1:], picked[None]])
            return h + np.cumsum(h), (np.argmax(h), picked)

        h, (best, picked) = mg.scan(step, x, i)
        return h, best, picked

    x, i = np.arange(5.0), np.array([0, 4, 2, -1, 3, 1, 1])
    compiled = mg.compile(f, backend="native")
    for have, want in zip(compiled(x, i), f(x, i), strict=True):
        np.testing.assert_array_equal(have, want)
    assert not any(line.startswith("step") for line in str(compiled.stages[-1]).splitlines())


WRITERS = {
    "copy": functools.partial(copies._copy, 16), "clear": copies._clear, "random_bits": philox._write,
    "position": functools.partial(gather_scatter._position, np.dtype("u2"), None, False),
    "place": functools.partial(gather_scatter._position, np.dtype("i4"), "place_or_null", True),
    "rows": functools.partial(gather_scatter._scatter_rows, MAX, np.dtype("f4"), np.dtype("f4")),
    "single": functools.partial(gather_scatter._scatter_single, ADD, np.dtype("i1"), np.dtype("i1")),
    "sums": functools.partial(axis_kernels._totals, ADD, np.dtype("f8")),
    "sums_of_rows": functools.partial(axis_kernels._totals_of_rows, ADD, np.dtype("f4")),
    "largest_so_far": functools.partial(axis_kernels._totals, FMAX, np.dtype("f4")),
    "place_in_row": functools.partial(axis_kernels._place_in_row, True, np.dtype("f4")),
    "places": functools.partial(axis_kernels._places, False, np.dtype("f8")),
    "short_rows": functools.partial(axis_kernels._places_in_short_rows, True, np.dtype("u1"))}


@pytest.mark.parametrize("name", WRITERS)
def test_steps_compile_for_other_machines(name):
    text = step_codegen.text(name, WRITERS[name])
    for machine in jit.TARGETS.values():
        assert jit.compile_ir(text, machine)


def test_what_steps_are_not_for():
    x, i = input_(4, dtype="f2"), input_(4, dtype="i8")
    outputs = [node("cumsum", x, axis=0), node("scatter_add", x, i, shape=(3,)), node("argmax", x, axis=0)]
    assert [steps.unable(n) for n in outputs] == [f"{n.prim.name} of f16[4]" for n in outputs]
    program = same([x, i], outputs, [np.arange(4, dtype="f2"), np.array([0, 2, 2, 1])], native=False)
    assert "cumsum of f16" in str(program.stages[-1])


# -- quotients, remainders and shifts --------------------------------------------------------------------------


def numbers(dtype):
    """Return numbers at which division is delicate."""
    if np.dtype(dtype).kind == "f":
        info = np.finfo(dtype)
        found = [0, -0.0, 1, -1, 0.5, 3, -3, 0.1, -0.1, 7.3, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny,
                 info.smallest_subnormal, 1e10, -2.5]
        return np.array(found, dtype)
    info = np.iinfo(dtype)
    found = [info.min, info.max, info.min + 1, 0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65]
    return np.array(found + ([-1, -2, -3, -5, -7, -8] if info.min else []), dtype)


@pytest.mark.parametrize("dtype", [*NUMBERS, "i2", "u4"])
@pytest.mark.parametrize("name", ["floor_divide", "mod", "left_shift", "right_shift"])
def test_division_and_shifts(name, dtype):
    if dtype[0] == "f" and name.endswith("shift"):
        pytest.skip("shifts are of integers")
    xs, ys = (a.ravel() for a in np.meshgrid(numbers(dtype), numbers(dtype)))
    x, y = input_(len(xs), dtype=dtype), input_(len(xs), dtype=dtype)
    a, b = input_(dtype=dtype), input_(dtype=dtype)
    same([x, y, a, b], [node(name, x, y), node(name, a, b)], [xs, ys, xs[3:4].reshape(()), ys[40:41].reshape(())])


@given(st.integers(0, 2**31), st.sampled_from(["f4", "f8"]), st.integers(-30, 30))
def test_division_of_random_floats(seed, dtype, scale):
    rng = np.random.default_rng(seed)
    ys = rng.normal(size=500).astype(dtype)
    xs = (ys * rng.integers(-1000, 1000, 500)).astype(dtype)
    xs[::2] = np.nextafter(xs[::2], rng.choice([-9e9, 9e9]).astype(dtype))  # a quotient next to a whole number
    xs[::5] = (xs[::5] * 10.0 ** scale).astype(dtype)
    x, y = input_(500, dtype=dtype), input_(500, dtype=dtype)
    same([x, y], [node("floor_divide", x, y), node("mod", x, y)], [xs, ys])


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_division_compiles_for_other_machines(dtype):
    x, y = input_(7, dtype=dtype), input_(7, dtype=dtype)
    program = backends.build(Graph((x, y), (node("floor_divide", x, y), node("mod", x, y))), "native")
    for machine in jit.TARGETS.values():
        assert all(jit.compile_ir(text, machine) for text in program.texts)
