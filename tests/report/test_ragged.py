"""`compare` of examples of different size: loop, padded, giant."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.report.ragged import RaggedData
from tests.ragged.cases import SIZES, molecules

W = np.random.default_rng(2).normal(size=(4, 3))


def loss(w, g):
    h = np.tanh(g.x @ w)
    m = mg.segment_sum(h[g.src] * g.w[:, None], g.dst, g.x.shape[0])
    return np.sum((np.sum(m, axis=0) - g.y) ** 2)


@pytest.mark.parametrize("sizes", ["mixed", "empty middle", "one example", "no edges"])
def test_variants_agree(sizes, tmp_path):
    examples = molecules(SIZES[sizes])
    report = mg.compare(loss, W, examples, repeats=1, progress=False)
    assert [r.name for r in report.rows] == ["loop", "padded", "giant"]
    for row in report.rows:
        assert row.difference < 1e-9
        assert row.loss == pytest.approx(np.mean([loss(W, g) for g in examples]))
        assert row.examples == len(examples)
    assert "laid end to end" in str(report)
    assert "the batch" in report.graphs
    page = tmp_path / "page.html"
    report.to_html(page)
    assert "padded" in page.read_text(encoding="utf-8")


def test_padded_examples_have_the_largest_size():
    batch = mg.batch(molecules([(1, 0), (5, 9), (2, 3)]))
    padded = RaggedData((W, batch), (None, 0)).padded()
    _, filled, is_example = padded.args
    assert filled.lengths["node"].reshape(-1, 2).sum(axis=1).min() >= 5
    assert filled.lengths["edge"].reshape(-1, 2).sum(axis=1).tolist() == [9, 9, 9]
    assert is_example.tolist() == [True, False] * 3


def test_a_batch_beside_arrays():
    batch = mg.batch(molecules(SIZES["mixed"]))
    report = mg.compare(lambda w, g, s: s * loss(w, g), W, (batch, np.arange(4.0)), repeats=1, progress=False,
                        rows=("loop", "giant"))
    assert [r.name for r in report.rows] == ["loop", "giant"]
    with pytest.raises(mg.MinigradError, match="no row 'square'"):
        mg.compare(loss, W, batch, rows=("square",))


def test_padding_grows_with_the_spread_of_sizes():
    shares = []
    for spread in (0, 2, 8, 32):
        batch = mg.batch(molecules([(40 - spread, 60), *[(8, 12)] * 7] if spread < 32 else [(8, 12)] * 8))
        (filled,) = RaggedData((W, batch), (None, 0)).padded().batches()
        rows = {b: b.lengths["node"].sum() for b in (batch, filled)}
        assert rows[filled] >= 8 * batch.lengths["node"].max()
        shares.append(batch.nbytes / filled.nbytes)
    assert shares == sorted(shares)  # the nearer the sizes are to each other, the less is padding


node = mg.axis("node")


@mg.example
class Tree:
    x: mg.f64[node, 2]
    parent: mg.index(node, null=-1)[node]


@pytest.mark.parametrize("loss", [
    lambda w, t: np.sum(np.tanh(t.x[np.flatnonzero(t.x[:, 0] > 0)] @ w)),
    lambda w, t: np.sum(mg.tree_scan(lambda x, below: np.tanh(x @ w + np.sum(below, axis=0)), t.parent, t.x, mg.f64[2]))
], ids=["selection", "trees"])
def test_selections_and_trees(loss):
    rng = np.random.default_rng(0)
    trees = [Tree(rng.normal(size=(n, 2)), [-1, *((i - 1) // 2 for i in range(1, n))][:n]) for n in (3, 1, 0, 5)]
    report = mg.compare(loss, rng.normal(size=(2, 2)), mg.batch(trees), repeats=1)
    assert len(report.rows) == 3
    assert report.roundoff < 1e-12
