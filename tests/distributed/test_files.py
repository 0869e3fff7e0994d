"""Sections of arrays in files, and how they are read."""

import tempfile

import numpy as np
import pytest

from minigrad.distributed import files

from .losses import X


@pytest.mark.parametrize("order", ["C", "F"])
def test_sections_of_files(tmp_path, order):
    x = np.asarray(X, order=order)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    section = files.sent(mapped[5:9])
    assert isinstance(section, files.InFile) == (order == "C")
    if order == "C":
        np.testing.assert_array_equal(section.open(), X[5:9])


def test_files_that_may_be_written_are_read_here(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    assert files.sent(mapped) is mapped


def test_files_without_a_name_are_read_here(tmp_path):
    with tempfile.TemporaryFile() as file:
        file.write(X.tobytes())
        file.flush()
        mapped = np.memmap(file, X.dtype, "r", 0, X.shape)
        assert files.sent(mapped) is mapped
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    assert files.sent(mapped) is mapped


def test_blocks_of_rows_share_their_memory(tmp_path):
    np.save(tmp_path / "x.npy", X)
    reader = files.Reader(files.sent(np.load(tmp_path / "x.npy", mmap_mode="r")[3:]))
    first = reader[0:20]
    np.testing.assert_array_equal(first, X[3:23])
    np.testing.assert_array_equal(reader[20:35], X[23:38])
    np.testing.assert_array_equal(first[:15], X[23:38])
    reader.close()
