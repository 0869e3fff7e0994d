"""Scatters and sums over segments: NumPy's numbers, the same bits in any order of blocks, and no needless sort."""

import ctypes

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.backends.cupy import program as executor
from minigrad.backends.cupy.prelude import COMMON
from minigrad.backends.cupy.program import Program
from minigrad.backends.cupy.segment_kernels import SortByPlace
from minigrad.graph import Graph
from minigrad.symbolic import Dim

from ...passes.programs import input_, node
from . import programs
from .failures import Failures
from .programs import Nowhere, close

DTYPES = ("f4", "f8", "f2", "i8", "i1")
# Updates, places and columns that programs are made for: teams of 32 along updates, across columns, and of one.
HINTS = ((4000, 10, 1), (4000, 10, 40), (100, 400, 3), (100, 400, 1))


def sizes_of(hints):
    n, places, wide = (Dim.new(name, hint) for name, hint in zip("npw", hints, strict=True))
    return n, places, wide


def cases():
    """Yield a name, places and columns, and the place of each update."""
    rng = np.random.default_rng(0)
    yield "no update", 7, 3, np.zeros(0, int)
    yield "one place", 1, 2, np.zeros(3000, int)
    yield "all in one of many", 300, 1, np.full(2500, 217)
    yield "one huge, and others", 90, 5, np.concatenate([np.full(2300, 89), rng.integers(0, 89, 200)])
    yield "in order", 70, 3, np.sort(rng.integers(0, 60, 2100))
    yield "in the other order", 50, 1, np.sort(rng.integers(0, 50, 600))[::-1]
    yield "out of order", 30, 2, rng.integers(-30, 30, 2200)
    yield "one each", 300, 1, rng.permutation(300)
    yield "a few", 3, 70, rng.integers(0, 3, 150)


def numbers(dtype, shape, rng):
    x = rng.normal(size=shape) * 8
    return (np.abs(x) if dtype[0] == "u" else x).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_at_places_are_numpys(device, dtype):
    rng = np.random.default_rng(1)
    made = []
    for hints in HINTS[:None if dtype == "f4" else 1]:
        n, places, wide = sizes_of(hints)
        u, i = input_(n, wide, dtype=dtype), input_(n, dtype="i8")
        shape = places, wide
        graph = Graph((u, i), tuple(node(name, u, i, shape=shape) for name in (
            "scatter_add", "scatter_max", "scatter_min")))
        made.append((Program(graph, device=device), (n, places, wide)))
    with Failures() as failures:
        for name, places, wide, index in cases():
            u = numbers(dtype, (len(index), wide), rng)
            if dtype[0] == "f" and len(u):
                u[len(u) // 2] = np.nan
            exact = u.astype("f8") if dtype[0] == "f" else u
            want = np.zeros((places, wide), exact.dtype)
            np.add.at(want, index, exact)
            worst = [(np.inf, -np.inf) if dtype[0] == "f" else (np.iinfo(dtype).max, np.iinfo(dtype).min)][0]
            least, most = (np.full((places, wide), w, dtype) for w in worst)
            np.maximum.at(most, index, u)
            np.minimum.at(least, index, u)
            near = np.zeros((places, wide))
            np.add.at(near, index, np.abs(exact).astype("f8"))
            for program, dims in made:
                with failures.case((name, [d.hint for d in dims])):
                    sizes = {d.symbol: k for d, k in zip(dims, (len(index), places, wide), strict=True)}
                    device.backwards = False
                    total, *extremes = programs.call(program, [u, index], sizes)
                    for have, expected in zip(extremes, (most, least), strict=True):
                        np.testing.assert_array_equal(have, expected, strict=True)
                    if dtype[0] == "f":
                        bound = 30 * np.finfo("f4" if dtype == "f2" else dtype).eps * near + (
                            np.finfo(dtype).eps * np.abs(want))
                        assert (np.isnan(total) == np.isnan(want)).all()
                        assert (np.isnan(want) | (np.abs(total - want) <= bound)).all()
                    else:
                        np.testing.assert_array_equal(total, want.astype(dtype), strict=True)
                    device.backwards = True
                    again, *_ = programs.call(program, [u, index], sizes)
                    assert again.tobytes() == total.tobytes(), "the order of blocks and threads changes bits"


@pytest.mark.parametrize("hints", HINTS)
def test_sums_of_gathered_rows(device, hints):
    n, places, wide = sizes_of(hints)
    x, source, to = input_(places, wide, dtype="f4"), input_(n, dtype="i8"), input_(n, dtype="i8")
    program = Program(Graph((x, source, to), (node("gather_sum", x, source, to, size=places),)), device=device)
    rng = np.random.default_rng(2)
    for _, n_places, columns, index in cases():
        rows, at = rng.normal(size=(n_places, columns)).astype("f4"), rng.integers(-n_places, n_places, len(index))
        sizes = {d.symbol: k for d, k in zip((n, places, wide), (len(index), n_places, columns), strict=True)}
        want, near = np.zeros((2, *rows.shape))
        np.add.at(want, index, rows[at])
        np.add.at(near, index, np.abs(rows[at]))
        (have,) = programs.call(program, [rows, at, index], sizes)
        assert (np.abs(have - want) <= 30 * np.finfo("f4").eps * near).all()


def test_scatter_add_bits_of_a_row_do_not_depend_on_other_rows(device):
    n, places, wide = sizes_of((100, 10, 4))
    u, i = input_(n, wide, dtype="f4"), input_(n, dtype="i8")
    program = Program(Graph((u, i), (node("scatter_add", u, i, shape=(places, wide)),)), device=device)
    rng = np.random.default_rng(3)
    own = rng.normal(size=(600, 4)).astype("f4")

    def total(before, after):
        rows = np.concatenate([rng.normal(size=(before, 4)).astype("f4"), own,
                               rng.normal(size=(after, 4)).astype("f4")])
        index = np.repeat([0, 1, 2], [before, len(own), after])
        mixed = np.argsort(rng.random(len(index)) + (index == 1) * np.arange(len(index)), kind="stable")
        mixed = mixed[np.argsort(np.where(index[mixed] == 1, 0, 1), kind="stable")] if before % 2 else mixed
        sizes = {n.symbol: len(rows), places.symbol: 3, wide.symbol: 4}
        return programs.call(program, [rows[mixed], index[mixed]], sizes)[0][1]

    first = total(0, 0)
    for before, after in ((1, 0), (37, 5), (64, 300), (501, 1)):
        assert total(before, after).tobytes() == first.tobytes()


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0, 700, 0], [1] * 60, [0], [600, 1, 299, 0]])
def test_known_lengths_are_not_sorted(device, lengths):
    n, examples = Dim.new("n", 1000), Dim.new("B", 20)
    u, k = input_(n, 2), input_(examples, dtype="i4")
    ids = node("segment_ids", k, size=n)
    graph = Graph((u, k), (node("scatter_add", u, ids, shape=(examples, 2)),
                           node("scatter_max", u, ids, shape=(examples, 2)), ids))
    program = Program(graph, device=device)
    assert not any(isinstance(op, SortByPlace) for op in program.plan.ops)
    lengths = np.asarray(lengths, "i4")
    rows = np.random.default_rng(4).normal(size=(lengths.sum(), 2))
    total, most, have = programs.call(program, [rows, lengths], {n.symbol: len(rows), examples.symbol: len(lengths)})
    want = np.repeat(np.arange(len(lengths)), lengths)
    np.testing.assert_array_equal(have, want)
    parts = np.split(rows, np.cumsum(lengths)[:-1])
    np.testing.assert_allclose(total, [p.sum(0) for p in parts], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(most, [p.max(0, initial=-np.inf) for p in parts])


@pytest.mark.parametrize("wide", [None, 3])
def test_cumulative_sums_begin_anew_in_each_segment(device, wide):
    """In one chunk and in several, with segments that end within chunks and go on over them."""
    n = Dim.new("n", 1000)
    x, ids = input_(*(n, wide)[:1 + bool(wide)]), input_(n, dtype="i4")
    ways = [node("segment_cumsum", x, ids, reverse=r) for r in (False, True)]
    program = Program(Graph((x, ids), tuple(ways)), device=device)
    rng = np.random.default_rng(6)
    for lengths in ([0], [1], [5, 1, 300], [4096, 10], [4000, 5000, 1], [9001], [1] * 40):
        owner = np.repeat(np.arange(len(lengths)), lengths)
        rows = rng.normal(size=(len(owner), *x.shape[1:]))
        forward, back = programs.call(program, [rows, owner.astype("i4")], {n.symbol: len(rows)})
        parts = np.split(rows, np.cumsum(lengths)[:-1])
        np.testing.assert_allclose(forward, np.concatenate([p.cumsum(0) for p in parts]), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(back, np.concatenate([p[::-1].cumsum(0)[::-1] for p in parts]), rtol=1e-11,
                                   atol=1e-11)


@pytest.mark.parametrize("axis", [0, 1])
def test_long_cumulative_sums_are_made_of_chunks(device, axis):
    n = Dim.new("n", 1000)
    x = input_(*(n, 2)[::1 - 2 * axis])
    program = Program(Graph((x,), (node("cumsum", x, axis=axis), node("cumfmax", x, axis=axis))), device=device)
    for length in (1, 300, 4096, 4097, 9001):
        data = np.random.default_rng(7).normal(size=(length, 2))
        data[length // 2:length // 2 + 9, 1] = np.nan
        data = data.swapaxes(0, axis)
        sums, most = programs.call(program, [data], {n.symbol: length})
        np.testing.assert_allclose(sums, np.cumsum(data, axis), rtol=1e-11, atol=1e-11)
        np.testing.assert_array_equal(most, np.fmax.accumulate(data, axis))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("n", "places"), [(0, 3), (500, 70_000), (5000, 300), (4100, 2), (3000, 255), (3000, 256)])
def test_the_sort_is_stable(stand_in, n, places, ordered):
    """One to three passes, of one to three blocks; what goes nowhere stands behind all places."""
    index = np.random.default_rng(n).integers(0, places + 1, n).astype("u4")
    if ordered:  # but for two neighbours of different blocks in one case
        index.sort()
        if n == 4100:
            index[2047:2049] = 1, 0
    order = SortByPlace(node("scatter_add", input_(n), input_(n, dtype="i8"), shape=(places,)))
    rooms = {key: np.empty(size({}) // 4, "u4") for key, size in order.bytes().items()} | {order.places: index}
    for name, blocks, arguments in order.launches({}):
        values = [ctypes.c_longlong(a if isinstance(a, int) else rooms[a].ctypes.data) for a in arguments]
        stand_in.launch(stand_in.function(COMMON, name), blocks, 256, executor.pack(values))
    np.testing.assert_array_equal(rooms[order.order], np.argsort(index, kind="stable"))
    np.testing.assert_array_equal(rooms[order.ends], np.searchsorted(np.sort(index), np.arange(places), "right"))


def test_updates_are_computed_as_they_are_taken():
    x, i, j = input_(9, 4), input_(6, dtype="i8"), input_(6, dtype="i8")
    sent = node("tanh", node("gather", x, i) * 2)
    once = Program(Graph((x, i, j), (node("scatter_add", sent, j, shape=(9, 4)),)), device=Nowhere()).plan
    twice = Program(Graph((x, i, j), (node("scatter_add", sent, j, shape=(9, 4)), sent)), device=Nowhere()).plan
    assert [type(op).__name__ for op in once.ops] == ["Launch", "SortByPlace", "Launch"]
    assert len(twice.ops) == 4


def test_scatters_by_the_same_indices_share_their_order():
    x, i, v = input_(9, 4), input_(6, dtype="i8"), input_(6, 4)
    graph = Graph((x, i, v), (node("scatter_add", v, i, shape=(9, 4)), node("scatter_max", v * 2, i, shape=(9, 4)),
                              node("gather_sum", x, i, i, size=9)))
    plan = Program(graph, device=Nowhere()).plan
    assert sum(isinstance(op, SortByPlace) for op in plan.ops) == 1


@pytest.mark.parametrize("name", ["add", "max", "min"])
def test_long_scatters(device, name):
    rng = np.random.default_rng(0)
    n, places = 5000, 700
    index = rng.integers(-places, places, n)
    index[index % places == 3] = 4  # place 3 gets nothing
    values = rng.normal(size=(n, 3))
    values[7, 1] = np.nan

    def f(v, i):
        return getattr((np.zeros((places, 1)) * v[:1]).at[i], name)(np.tanh(v))

    graph, arrays, sizes = programs.optimized(f, values, index)
    program = Program(graph, device=device)
    want = interpreters.evaluate(graph, arrays, sizes)
    first = programs.call(program, arrays, sizes)
    close(first, want, 1e-12)
    device.backwards = True
    for a, b in zip(first, programs.call(program, arrays, sizes), strict=True):
        assert a.tobytes() == b.tobytes()  # the order of blocks and threads changes no bit
