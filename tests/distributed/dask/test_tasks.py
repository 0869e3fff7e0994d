"""Tasks on chunks, without a scheduler: checks, empty chunks, errors with the chunk's name."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed.chunks import Sent
from minigrad.distributed.divide import Dividing
from minigrad.errors import MinigradError

from ..losses import AXES, W, X, Y, loss

pytest.importorskip("dask", reason="needs the extra dask")
tasks = pytest.importorskip("minigrad.distributed.dask.tasks")
ChunkError = pytest.importorskip("minigrad.distributed.dask.arguments").ChunkError

PATHS = [["one array"], ["one array"]]
PLACE = tasks.Place("distribute(loss)", 1, 3, (10, 20))


def program(f=None, axes=AXES, args=(W, X, Y)):
    divided, _, _ = Dividing(f or mg.mean_loss(loss, in_axes=AXES), axes, "distribute")(args, {})
    return Sent.of(divided, tuple(range(1, len(args))))


def test_names_of_places():
    assert str(PLACE) == "chunk 1 of 3 (examples 10 to 19)"
    assert str(PLACE._replace(examples=None)) == "chunk 1 of 3"
    assert str(PLACE._replace(examples=(4, 4))) == "chunk 1 of 3"


def test_a_chunk_runs_and_is_counted():
    results = tasks.run(program(), [W], PATHS, PLACE, X[10:20], Y[10:20])
    (total,) = results.values
    assert results.counts == (10,)
    assert total / 10 == pytest.approx(mg.mean_loss(loss, in_axes=AXES)(W, X[10:20], Y[10:20]))
    assert tasks.count_chunk(program(), [], PATHS, PLACE, X[10:20], Y[10:20]) == ((10,), [])
    assert tasks.some(results, [0]) == results
    assert tasks.one(results, 0) is total


def test_chunks_without_examples():
    one = program(mg.mean_loss(lambda w, x: np.sum(w * x), in_axes=(None, 0)), (None, 0), (W, X))
    assert tasks.run(one, [W], PATHS[:1], PLACE, iter([])).values == [None]
    assert tasks.run(one, [W], PATHS[:1], PLACE, list(X[:2])).counts == (2,)
    with pytest.raises(ChunkError, match="one argument has examples, and another has none"):
        tasks.run(program(), [W], PATHS, PLACE, X[:3], [])


def test_errors_have_the_name():
    with pytest.raises(ChunkError, match=r"distribute\(loss\): chunk 1 of 3 \(examples 10 to 19\): argument y has"):
        tasks.run(program(), [W], PATHS, PLACE, X, Y.astype(np.float32))
    with pytest.raises(ChunkError, match="the examples have a, b here, and one array in the first chunk"):
        tasks.run(program(), [W], PATHS, PLACE, X, [{"a": 1.0, "b": 2.0}])

    def breaks():
        yield 1.0
        raise OSError("no such file")

    with pytest.raises(MinigradError, match=r"chunk 1 of 3 \(examples 10 to 19\): OSError: no such file"):
        tasks.run(program(), [W], PATHS, PLACE, X, breaks())


def test_lengths_and_first_examples():
    assert tasks.length(iter("abc")) == tasks.length([1, 2, 3]) == 3
    assert tasks.first_of(iter("abc")) == ["a"]
    assert tasks.first_of(iter("")) == []
