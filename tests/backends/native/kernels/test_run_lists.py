"""Lists of the runs of scatters: results for any number of threads, and the sizes of the table."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from minigrad import backends
from minigrad.backends.native.codegen import step_codegen
from minigrad.backends.native.kernels import gather_scatter, run_lists
from minigrad.backends.native.runtime import threads
from minigrad.graph import Graph
from tests.passes.programs import input_, node


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (7, 1), (900, 1), (900, 4), (65, 300)])
@pytest.mark.parametrize("order", ["sorted", "near", "random", "one row"])
def test_lists_of_runs_change_no_bit_of_a_scatter(monkeypatch, order, rows, columns):
    monkeypatch.setattr(step_codegen, "SERIAL", 1)
    monkeypatch.setattr(run_lists, "_BLOCK", 100)
    rng = np.random.default_rng(rows + columns)
    count = 1501
    index = {"sorted": np.sort(rng.integers(0, rows, count)), "random": rng.integers(0, rows, count),
             "near": np.clip(np.arange(count) * rows // count + rng.integers(-3, 4, count), 0, rows - 1),
             "one row": np.full(count, rows - 1)}[order]
    x = rng.normal(size=(count, columns)).astype("f4")
    u, i = input_(*x.shape, dtype="f4"), input_(count, dtype="i8")
    results = {name: node(name, u, i, shape=(rows, columns)) for name in ("scatter_add", "scatter_max")}
    program, before = backends.build(Graph((u, i), tuple(results.values())), "native"), threads.get_num_threads()
    found = {}
    try:
        for listed, team in ((10**9, 1), (10**9, 3), (1, 2), (1, 5), (1, 32)):
            for name, value in (("_LISTED", listed), ("_SINGLES", 1)):
                monkeypatch.setattr(gather_scatter, name, value)
            threads.set_num_threads(team)
            found[team] = program([x, index], {})
    finally:
        threads.set_num_threads(before)
    total, most = np.zeros((rows, columns)), np.full((rows, columns), -np.inf, "f4")
    np.add.at(total, index, x)
    np.maximum.at(most, index, x)
    np.testing.assert_allclose(found[1][0], total, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found[1][1], most)
    for team, results_of in found.items():
        for have, want in zip(results_of, found[1], strict=True):
            np.testing.assert_array_equal(have, want, f"{team} threads")


def test_lists_and_blocks_are_as_many_as_their_table_holds():
    for rows, lists in ((1, 64), (5, 3), (64, 64), (65, 64), (10**6, 7)):
        number = -(-rows // (1 << run_lists.shift_of(rows, lists)))
        assert min(rows, lists) / 2 < number <= lists
    for count in (1, 4096, 4097, 10**6, 10**9 + 7):
        blocks = run_lists.blocks_of(count)
        assert 1 <= blocks <= 64
        assert -(-count // -(-count // blocks)) == blocks, "no block is without indices"
        assert run_lists.table_bytes(count) <= run_lists.most_table_bytes(count)
