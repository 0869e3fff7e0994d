"""Programs in three parts, against the whole."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed import divide
from minigrad.distributed.divide import Dividing

from .losses import AXES, FUNCTIONS, IN_AXES, W, X, Y, loss


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_is_taken_apart_once_for_all_sizes(name):
    f, args = FUNCTIONS[name]
    dividing = Dividing(f, IN_AXES[name], "distribute")
    first, *_ = dividing(args, {})
    fewer = (args[0], *(a[:11] for a in args[1:]))
    second, leaves, sizes = dividing(fewer, {})
    assert second is first
    operands = first.operands(leaves, sizes)
    spans = first.spans(operands, 4)
    examples = [(begin[first.symbols[0][0]], end[first.symbols[0][0]]) for begin, end in spans]
    assert examples == [(0, 2), (2, 5), (5, 8), (8, 11)]


def test_a_part_pickles():
    divided, leaves, sizes = Dividing(mg.grad(mg.mean_loss(loss, in_axes=AXES)), AXES, "distribute")((W, X, Y), {})
    operands = divided.operands(leaves, sizes)
    (span,) = divided.spans(operands, 1)
    section = divided.sections(operands, span)
    for a, b in zip(pickle.loads(divided.body).run(section, 0), divided.here.run(section, 0), strict=True):
        np.testing.assert_array_equal(a, b)
    empty = [x[:0] if axis == 0 else x for x, axis in zip(operands, divided.node.params["in_axes"], strict=True)]
    (sums,) = divided.here.run(empty, 0)
    np.testing.assert_array_equal(sums, np.zeros(20))


def test_other_dtypes_are_other_programs():
    dividing = Dividing(mg.mean_loss(loss, in_axes=AXES), AXES, "distribute")
    wide, *_ = dividing((W, X, Y), {})
    narrow, *_ = dividing(tuple(a.astype(np.float32) for a in (W, X, Y)), {})
    assert narrow is not wide
    assert narrow.key != wide.key


def test_an_error_in_tracing_leaves_nothing():
    dividing = Dividing(lambda w, x: w @ x, (None, 0), "distribute")
    with pytest.raises(mg.MinigradError):
        dividing((W, X[:, :3]), {})
    assert not dividing._known


def test_arguments_of_the_types_of_before_need_no_search(monkeypatch):
    dividing = Dividing(mg.mean_loss(loss, in_axes=AXES), AXES, "distribute")
    first, _, sizes = dividing((W, X, Y), {})
    flattened = []
    monkeypatch.setattr(dividing._fixed, "flatten", lambda *args: flattened.append(args))
    again, leaves, same_sizes = dividing((W + 1, X * 2, Y), {})
    assert again is first
    assert same_sizes == sizes
    np.testing.assert_array_equal(leaves[0], W + 1)
    assert not flattened


def test_sizes_and_numbers_are_those_of_each_call():
    with ThreadPoolExecutor(1) as executor:
        step = mg.distribute(mg.mean_loss(lambda w, x, n: np.sum(x[:n] * w[:n]), in_axes=(None, 0, None)), executor, 2)
        for k in (*range(1, 5), *range(1, 300, 60), 2, 3):
            for n in (2, 3):
                x = np.resize(X, (k, 20))
                assert step(W, x, n) == pytest.approx(np.mean(x[:, :n] @ W[:n]), rel=1e-12)
        assert step(W.astype("f4"), X.astype("f4"), 2).dtype == np.float32


def test_many_shapes_are_forgotten(monkeypatch):
    monkeypatch.setattr(divide, "_REMEMBERED", 3)
    dividing = Dividing(mg.mean_loss(loss, in_axes=AXES), AXES, "distribute")
    for k in range(1, 8):
        divided, _, sizes = dividing((W, X[:k], Y[:k]), {})
        assert [*sizes.values()] == [k]
        assert len(dividing._bound) <= 3
    assert dividing((W, X, Y), {})[0] is divided
