"""The program of a chunk against that of the whole batch; what chunks tell of themselves."""

import pickle

import numpy as np
import optree
import pytest

from minigrad.distributed.chunks import ChunkProgram, Sent, shared_leaves
from minigrad.distributed.divide import Dividing

from .losses import FUNCTIONS, IN_AXES, SENTENCES, X, Y

SUMS = [name for name in FUNCTIONS if name not in ("one per example", "norms", "ragged results")]


def of(name):
    """Return the division of a function, its arguments' leaves, and the places of those with rows."""
    f, args = FUNCTIONS[name]
    divided, leaves, sizes = Dividing(f, IN_AXES[name], "distribute")(args, {})
    shared = len(optree.tree_leaves(args[0]))
    return divided, leaves, sizes, tuple(range(shared, len(leaves)))


@pytest.mark.parametrize("name", SUMS)
def test_chunks_add_up_to_the_whole(name):
    f, args = FUNCTIONS[name]
    divided, leaves, sizes, mapped = of(name)
    program = pickle.loads(pickle.dumps(Sent.of(divided, mapped))).program
    shared = divided.shared_operands(leaves, sizes) + [leaves[k] for k in shared_leaves(divided, mapped)]
    results = []
    for part in (slice(0, 8), slice(8, 9), slice(9, None)):
        own = optree.tree_leaves(tuple(a[part] for a in args[1:]))
        results.append(program.run([np.asarray(x) for x in own], shared, 0))
    assert sum(r.counts[0] for r in results) == len(args[1])
    found = divided.finish(leaves, divided.summed([r.values for r in results]), sizes)
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(f(*args)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_counts_are_those_of_the_batch():
    divided, leaves, _, mapped = of("ragged")
    program = ChunkProgram.of(divided, mapped)
    assert program.counts([leaves[k] for k in mapped])[:2] == (23, len(SENTENCES.x))


def test_a_chunk_without_examples():
    divided, leaves, sizes, mapped = of("norms")
    program = ChunkProgram.of(divided, mapped)
    shared = divided.shared_operands(leaves, sizes)
    (rows,) = program.run([X[:0], Y[:0]], shared, 0).values
    assert rows.shape == (0,)
    divided, leaves, sizes, mapped = of("value and gradient")
    nothing = ChunkProgram.of(divided, mapped).nothing()
    assert nothing.counts == (0,)
    assert nothing.values == [None, None]


def test_leaves_of_another_type_are_told():
    program = ChunkProgram.of(of("mean")[0], (1, 2))
    assert program.differs([X, Y]) is None
    assert program.differs([X.astype(np.float32), Y]) == (
        "argument x has dtype float32 here, and float64 in the first chunk")
    assert program.differs([X, Y[1:]]) == "size B is 53 in x and 52 in y (axis 0)"
    assert program.differs([X[:, 1:], Y]) == "argument x: expected shape [B, 20], got [53, 19]"


def test_a_program_is_unpickled_once():
    divided, _, _, mapped = of("mean")
    text = pickle.dumps(Sent.of(divided, mapped))
    assert pickle.loads(text) is pickle.loads(text)
    assert pickle.dumps(pickle.loads(text)) == text
