"""A part in blocks of rows, in memory and from files, against the part in one."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed import blocks
from minigrad.distributed.blocks import run_in_blocks
from minigrad.distributed.divide import Dividing
from minigrad.distributed.files import InFile

from .losses import AXES, FUNCTIONS, IN_AXES, W, X, Y, loss


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    monkeypatch.setattr(blocks, "_SHARED", 0)


def divided(f, axes, args):
    program, leaves, sizes = Dividing(f, axes, "distribute")(args, {})
    return program, program.operands(leaves, sizes)


def in_files(folder, operands, axes):
    """Return the operands with rows as sections of files, behind a header."""
    out = []
    for k, (x, axis) in enumerate(zip(operands, axes, strict=True)):
        if axis is not None:
            (folder / str(k)).write_bytes(b"header" + np.ascontiguousarray(x).tobytes())
            x = InFile(str(folder / str(k)), x.dtype.str, x.shape, 6)
        out.append(x)
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_blocks_are_the_part_in_one(name, small, tmp_path):
    f, args = FUNCTIONS[name]
    program, operands = divided(f, IN_AXES[name], args)
    assert blocks._blocks(program.here, operands) > 2
    want = program.here.run(operands, 0)
    found = run_in_blocks(program.here, operands, 0)
    from_files = run_in_blocks(program.here, in_files(tmp_path, operands, program.here.in_axes), 0)
    for a, b, c in zip(want, found, from_files, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)
        assert b.tobytes() == c.tobytes(), "the bits do not depend on where the rows are"


def test_results_that_are_rows_of_a_file_are_not_overwritten(small, tmp_path):
    program, operands = divided(mg.vmap(lambda x: x), 0, (X,))
    (got,) = run_in_blocks(program.here, in_files(tmp_path, operands, program.here.in_axes), 0)
    np.testing.assert_array_equal(got, X)


def test_an_error_names_the_example_of_the_whole_batch(small):
    k = np.zeros((1000, 2), int)
    k[777, 1] = 40
    program, operands = divided(mg.mean_loss(lambda w, k: np.sum(w[k]), in_axes=(None, 0)), (None, 0), (W, k))
    with pytest.raises(IndexError, match="example 877"):
        run_in_blocks(program.here, operands, 100)


def test_a_file_that_ends_too_early_is_an_error(small, tmp_path):
    program, operands = divided(mg.grad(mg.mean_loss(loss, in_axes=AXES)), AXES, (W, X, Y))
    sections = in_files(tmp_path, operands, program.here.in_axes)
    (path,) = {x.path for x in sections if isinstance(x, InFile) and x.shape == X.shape}
    with open(path, "r+b") as file:
        file.truncate(6 + X.nbytes - 8)
    with pytest.raises(mg.MinigradError, match="ends before row 53 of 53"):
        run_in_blocks(program.here, sections, 0)


def test_many_parameters_make_large_blocks():
    f = mg.grad(mg.mean_loss(lambda w, x: np.sum((w * x) ** 2), in_axes=(None, 0)))
    few, operands = divided(f, (None, 0), (np.ones(2), np.ones((1 << 20, 2))))
    assert blocks._blocks(few.here, operands) == 8
    many, operands = divided(f, (None, 0), (np.ones(1 << 14), np.ones((132, 1 << 14))))
    assert blocks._blocks(many.here, operands) == 4
    assert blocks._blocks(many.here, [x[:16] if x.ndim > 1 else x for x in operands]) == 0
