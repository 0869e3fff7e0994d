"""The current trace: guards on sizes, constants, provenance, and what nested traces and threads share of it."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ShapeError
from minigrad.graph import PRIMITIVES, full, moment
from minigrad.symbolic import Dim
from minigrad.traced_array import as_array
from minigrad.tracing import (
    Guards,
    Tagged,
    guard_equal,
    guard_equal_shapes,
    made_by,
    new_trace,
    note_batch,
    number,
    thread,
    tracing,
)


def node():
    return full(1.0, (2,), np.dtype(float))


def test_a_trace_ends_with_its_block_also_by_an_error():
    bottom = thread.trace
    assert not tracing()
    def fails():
        with new_trace():
            assert tracing()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert thread.trace is bottom
    assert not tracing()


def test_each_thread_has_its_own_trace():
    seen = []
    with new_trace(Guards(insisted={}, merged=[])):
        worker = threading.Thread(target=lambda: seen.append((tracing(), vars(thread.trace.guards))))
        worker.start()
        worker.join()
    assert seen == [(False, {})]  # nothing is recorded


def test_nested_traces_share_guards_and_large_constants_but_not_values():
    large = np.zeros(1 << 14)
    with new_trace(Guards(insisted={}, merged=[])) as outer:
        a = as_array(large)
        with new_trace() as inner:
            assert inner.guards is outer.guards
            assert as_array(large)._node is a._node
            assert inner.values == [a._node]
            with new_trace(Guards(mapped=[], named={})) as own:
                assert own.guards is not outer.guards
        assert outer.values == [a._node]
    assert as_array(large)._node is not as_array(large)._node


def test_reads_by_indices_are_known_to_the_traces_around():
    def read():
        PRIMITIVES["gather"](full(1.0, (3,), np.dtype(float)), full(0, (2,), np.dtype(int)))

    since = moment()
    with new_trace() as outer:
        with new_trace() as inner:
            assert inner.read < since
            read()
            assert inner.read > since
        assert outer.read == inner.read
        with new_trace() as other:
            assert other.read < since
        assert outer.read == inner.read


def test_provenance_goes_into_nested_traces_and_ends_with_its_block():
    source = node()
    with made_by("vjp") as working_on:
        working_on(source)
        with new_trace(), made_by("vmap"):
            assert node().rules == ("vmap",)
            assert node().source is source
        assert node().rules == ("vjp",)
    assert (node().rules, node().source) == ((), None)


def test_a_number_of_a_symbol_is_a_guard_with_its_line():
    n = Dim.new("n", 3)
    assert number(n) == 3
    with new_trace(Guards(insisted={}, merged=[])) as trace:
        assert number(5) == 5
        assert number(n + 1) == 4
    (symbol, (file, _)), = trace.guards.insisted.items()
    assert symbol is n.symbol
    assert file == __file__
    with pytest.raises(ShapeError, match="number behind the symbolic size m"):
        number(Dim.new("m"))


def test_equal_sizes_of_an_example_are_guards():
    n, m, k = Dim.new("n", 3), Dim.new("m", 3), Dim.new("k", 4)
    assert not guard_equal(n, m)  # nothing is recorded here, so nothing is assumed
    with new_trace(Guards(insisted={}, merged=[])) as trace:
        assert guard_equal(n, n)
        assert guard_equal(2, 2)
        assert vars(trace.guards) == {"insisted": {}, "merged": []}
        assert not guard_equal(n, k)
        assert not guard_equal(n, Dim.new("unknown"))
        assert vars(trace.guards) == {"insisted": {}, "merged": []}
        assert guard_equal_shapes((n, 2), (m, 2))
        assert (trace.guards.merged, trace.guards.insisted) == ([(n.symbol, m.symbol)], {})
        assert guard_equal(n, 3)
        assert list(trace.guards.insisted) == [n.symbol]
        assert not guard_equal_shapes((n,), (n, 1))


def test_axes_that_are_mapped_together_are_one_group():
    note_batch([Tagged(3, "x")])  # no trace wants to know
    with new_trace(Guards(mapped=[], named={})) as trace:
        note_batch([Tagged(3, "x"), 3, Tagged(3, "y")])
        note_batch([3])
        note_batch([Tagged(5, "z")], "node")
    assert trace.guards.mapped == [("x", "y"), ("z",)]
    assert trace.guards.named == {"z": "node"}


def test_guards_fix_and_merge_the_axes_of_a_graph():
    def f(x, y):
        return mg.vmap(lambda v: v * 2.0)(x), mg.vmap(lambda v: v * 3.0)(y)

    x, y = np.ones((4, 2)), np.ones((4, 3))
    assert str(mg.trace(f)(x, y)).splitlines()[0] == "f(x: f64[B, 2], y: f64[B2, 3]) -> (f64[B, 2], f64[B2, 3])"
    together = mg.trace(lambda x, y: np.sum(f(x, y)[0], axis=1) + np.sum(f(x, y)[1], axis=1))(x, y)
    assert [str(n.type) for n in together.inputs] == ["f64[B, 2]", "f64[B, 3]"]
    assert len(together.symbols) == 1
    fixed = mg.trace(lambda x: mg.vmap(np.sum)(x) * (2.0 if x.shape[0] > 3 else 1.0))(x)
    assert fixed.symbols == []
    assert "axis 0 of x is fixed at 4" in fixed.notes[0]
