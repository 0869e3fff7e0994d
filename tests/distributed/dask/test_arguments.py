"""Arguments in chunks: stand-ins for the trace, sections, lengths."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed.files import InFile
from minigrad.errors import BatchError

from ..losses import SENTENCES, X

dask = pytest.importorskip("dask", reason="needs the extra dask")
da = pytest.importorskip("dask.array")
arguments = pytest.importorskip("minigrad.distributed.dask.arguments")


def computed(chunks):
    return dask.compute(*chunks, scheduler="synchronous")


def test_arrays_are_cut_along_the_batch_only():
    chunks = arguments.ArrayChunks(da.from_array(X, chunks=(20, 7)), 0, "x")
    assert chunks.sizes == [20, 20, 13]
    assert chunks.stand_in(5).shape == (5, 20)
    for sizes, edges in ((None, [0, 20, 40]), ([20, 20, 13], [0, 20, 40]), ([1, 52], [0, 1])):
        found = computed(chunks.chunks(sizes))
        assert len(found) == len(edges)
        for block, begin in zip(found, edges, strict=True):
            np.testing.assert_array_equal(block, X[begin:begin + len(block)])
    assert list(map(len, computed(chunks.counted()))) == [20, 20, 13]


def test_a_stand_in_takes_no_memory():
    chunks = arguments.ArrayChunks(da.zeros((10**9, 1000), chunks=(10**7, 1000)), 0, "x")
    assert chunks.stand_in(10**7).strides == (0, 0)


def test_sizes_of_other_axes_are_known():
    x = da.from_array(X, chunks=10)
    with pytest.raises(BatchError, match=r"x is a Dask array of shape .*only the number of examples may be unknown"):
        arguments.ArrayChunks(x[:, x[0] > 0], 0, "x")


def test_sections_of_arrays_of_this_process(tmp_path):
    np.save(tmp_path / "x.npy", X)
    local = arguments.LocalChunks(X, 0, "x")
    assert local.sizes == [53]
    one, two = local.chunks([3, 50])
    np.testing.assert_array_equal(two, X[3:])
    assert one.base is X
    one, _ = arguments.LocalChunks(np.load(tmp_path / "x.npy", mmap_mode="r"), 0, "x").chunks([3, 50])
    assert isinstance(one, InFile)
    _, two = arguments.LocalChunks(SENTENCES, 0, "s").chunks([3, 20])
    assert len(two) == 20
    assert len(arguments.LocalChunks(SENTENCES, 0, "s").stand_in(40)) == 40


def test_examples_together():
    found = arguments.together([{"x": np.ones(2), "n": 1}, {"x": np.zeros(2), "n": 2}])
    np.testing.assert_array_equal(found["x"], [[1, 1], [0, 0]])
    assert found["n"].tolist() == [1, 2]
    assert isinstance(arguments.together(SENTENCES.unbatch()), mg.Batch)
    with pytest.raises(arguments.ChunkError, match="one shape in all examples"):
        arguments.together([np.ones(2), np.ones(3)])
    with pytest.raises(arguments.ChunkError, match="one structure"):
        arguments.together([(1.0,), [1.0]])
