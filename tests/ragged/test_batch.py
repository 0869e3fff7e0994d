"""Batches: the tutorial's numbers, `unbatch` as the exact inverse, and every refusal in words."""

import copy
import pickle

import numpy as np
import optree
import pytest

import minigrad as mg

from .cases import SIZES, Molecule, molecules

node, edge, user, item, triplet = map(mg.axis, ("node", "edge", "user", "item", "triplet"))


def same(a, b):
    for name in type(a).__schema__.fields:
        x, y = getattr(a, name), getattr(b, name)
        assert type(x) is type(y)
        if isinstance(x, (np.ndarray, np.generic)):
            np.testing.assert_array_equal(x, y, strict=True)
        else:
            assert x == y


@pytest.mark.parametrize("sizes", SIZES)
def test_unbatch_is_the_inverse(sizes):
    examples = molecules(SIZES[sizes])
    batch = mg.batch(examples)
    assert len(batch) == len(examples)
    for have, want in zip(batch.unbatch(), examples, strict=True):
        same(have, want)
    for k, want in enumerate(examples):
        same(batch[k], want)
    same(batch[-1], examples[-1])
    again = mg.batch(batch.unbatch())
    for name in ("x", "src", "dst", "w", "y"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name), strict=True)


def test_indexing_by_positions_slices_and_masks():
    examples = molecules(SIZES["empty middle"])
    batch = mg.batch(examples)
    mask = np.array([True, False, True, True])
    for key, which in ((mask, [0, 2, 3]), (slice(1, None), [1, 2, 3]), ([3, 0, 0], [3, 0, 0]), (slice(None, None, -1),
                                                                                               [3, 2, 1, 0])):
        part = batch[key]
        assert len(part) == len(which)
        for have, k in zip(part, which, strict=True):
            same(have, examples[k])
    assert len(batch[[]]) == 0
    for bad in (mask[:2], [4], [-5], 4, np.zeros((1, 1), int), [0.5]):
        with pytest.raises(mg.BatchError):
            batch[bad]


def test_batches_and_examples_share_no_memory():
    examples = molecules([(2, 1)])
    batch = mg.batch(examples)
    before = batch.x.copy()
    examples[0].x[:] = 7
    np.testing.assert_array_equal(batch.x, before)
    batch.unbatch()[0].src[:] = 9
    assert batch.src.max() < 2


# -- the tutorial ------------------------------------------------------------------------------------------------


def test_indices_of_a_bipartite_graph_shift_by_two_offsets():
    @mg.example
    class Rating:
        u: mg.f64[user]
        v: mg.f64[item]
        src: mg.index(user)[edge]
        dst: mg.index(item)[edge]

    one = Rating(np.ones(2), np.ones(3), [0, 0, 0, 1], [0, 1, 2, 2])
    two = Rating(np.ones(2), np.ones(2), [0, 0, 1], [0, 1, 1])
    batch = mg.batch([one, two])
    assert batch.src.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert batch.dst.tolist() == [0, 1, 2, 2, 3, 4, 4]
    assert batch.offsets[user].tolist() == [0, 2, 4]
    assert batch.offsets["item"].tolist() == [0, 3, 5]
    assert batch.segment_ids[edge].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert batch.lengths[item].tolist() == [3, 2]


def test_twelve_samples_in_six_batches_of_two():
    examples = molecules([(1 + k % 3, k) for k in range(12)])
    batches = list(mg.DataLoader(examples, batch_size=2))
    assert [len(b) for b in batches] == [2] * 6
    for have, want in zip((m for b in batches for m in b), examples, strict=True):
        same(have, want)


def test_blocks_have_the_elements_of_each_example():
    @mg.example
    class Graph:
        A: mg.f64[node, node]

    rng = np.random.default_rng(0)
    examples = [Graph(rng.normal(size=(n, n))) for n in (2, 2, 1)]
    batch = mg.batch(examples)
    assert batch.A.shape == (9,)  # in place of the 25 of a 5 x 5 adjacency
    for have, want in zip(batch, examples, strict=True):
        same(have, want)


def test_blocks_of_two_axes():
    rng = np.random.default_rng(0)
    examples = [rng.normal(size=s) for s in ((2, 3), (0, 2), (4, 1), (1, 5))]
    batch = mg.batch(examples, mg.f64[node, edge])
    assert batch.values.shape == (15,)
    for have, want in zip(batch, examples, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


def test_indices_into_rows_of_indices():
    @mg.example
    class Line:
        x: mg.f64[node]
        src: mg.index(node)[edge]
        first: mg.index(edge)[triplet]
        ends: mg.index(node)[edge, 2]
        root: mg.index(node)[()]

    a = Line(np.ones(2), [0, 1, 1], [2, 0], [[0, 1], [1, 1], [0, 0]], 1)
    b = Line(np.ones(3), [2], [0, 0, 0], [[2, 1]], 2)
    batch = mg.batch([a, b])
    assert batch.first.tolist() == [2, 0, 3, 3, 3]
    assert batch.ends.tolist() == [[0, 1], [1, 1], [0, 0], [4, 3]]
    assert batch.root.tolist() == [1, 4]
    for have, want in zip(batch, [a, b], strict=True):
        same(have, want)

    def f(g):
        return g.x[g.src[g.first]] * g.x[g.root] + g.x[g.ends[g.first]].sum(axis=1)

    for have, g in zip(mg.vmap(f)(batch).unbatch(), [a, b], strict=True):
        np.testing.assert_array_equal(have, f(g))


# -- counts, shared and optional fields, arrays ------------------------------------------------------------------


@mg.example
class Plain:
    n: mg.count(node)
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    table: mg.shared(mg.f64[3])
    weight: mg.f64[edge] = None


def plains(weight=True):
    table = np.arange(3.0)
    return [Plain(3, [0, 2], [1, 1], table, [1.0, 2.0] if weight else None),
            Plain(0, [], [], table, [] if weight else None),
            Plain(2, [1], [0], table.copy(), [3.0] if weight else None)]


def test_count_shared_and_optional():
    for weight in (True, False):
        examples = plains(weight)
        batch = mg.batch(examples)
        assert batch.table.tolist() == [0, 1, 2]
        assert batch.n.tolist() == [3, 0, 2]
        assert batch.src.tolist() == [0, 2, 4]
        assert (batch.weight is None) != weight
        for have, want in zip(batch, examples, strict=True):
            same(have, want)

        def f(g):
            w = np.ones(g.dst.shape[0]) if isinstance(g.dst, np.ndarray) else np.ones_like(g.dst, dtype=float)
            return mg.segment_sum(w if g.weight is None else g.weight, g.dst, g.n) * g.table[1]

        for have, g in zip(mg.vmap(f)(batch).unbatch(), examples, strict=True):
            np.testing.assert_array_equal(have, f(g))


def test_shared_and_optional_must_agree():
    a, _, c = plains()
    with pytest.raises(mg.BatchError, match=r"Plain\.table is shared, but differs between example 0 and example 1"):
        mg.batch([a, Plain(1, [], [], np.ones(3), [])])
    with pytest.raises(mg.BatchError, match=r"optional.*example 0 has it, example 1 does not"):
        mg.batch([c, plains(weight=False)[0]])


def test_arrays_of_a_declared_type():
    sentences = [np.ones((3, 2)), np.zeros((0, 2)), np.full((1, 2), 2.0)]
    batch = mg.batch(sentences, mg.f64[mg.axis("word"), 2])
    assert batch.values.shape == (4, 2)
    for have, want in zip(batch.unbatch(), sentences, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)
    np.testing.assert_array_equal(mg.vmap(lambda s: s.sum(axis=0))(batch), [s.sum(axis=0) for s in sentences])
    again = mg.vmap(lambda s: s * 2)(mg.vmap(lambda s: s + 1)(batch))
    np.testing.assert_array_equal(again, (np.concatenate(sentences) + 1) * 2)


def test_examples_and_batches_are_pytrees():
    (g,) = molecules([(2, 3)])
    doubled = optree.tree_map(lambda x: 2 * x, g)
    assert isinstance(doubled, Molecule)
    np.testing.assert_array_equal(doubled.x, 2 * g.x)
    batch = mg.batch([g, g])
    back = optree.tree_map(lambda x: x, batch)
    for have, want in zip(back, batch, strict=True):
        same(have, want)


# -- refusals ----------------------------------------------------------------------------------------------------


def test_batch_checks_indices_again():
    examples = molecules([(2, 2), (3, 4)])
    examples[1].dst[2] = 3
    with pytest.raises(mg.BatchError, match=r"example 1: Molecule.dst\[2\] is 3: no such row of node"):
        mg.batch(examples)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: mg.batch([]), "at least one example"),
    (lambda: mg.batch([np.ones(3)]), "Make a class of its fields with @mg.example"),
    (lambda: mg.batch([*molecules([(1, 0)]), *plains()]), "example 1 is a Plain, example 0 a Molecule"),
    (lambda: mg.axis("a b"), "a Python identifier"),
    (lambda: mg.index("node"), "made by mg.axis"),
    (lambda: mg.count("node"), "made by mg.axis"),
    (lambda: mg.shared(mg.f64[node]), "is not shared"),
    (lambda: mg.batch(molecules([(1, 0)])).offsets["word"], "no axis word; there are node, edge"),
])
def test_refusals_name_the_way_out(make, words):
    with pytest.raises(mg.BatchError, match=words):
        make()


@mg.example
class Masked:
    x: mg.f64[node]
    mask: mg.bool_[node]
    bias: mg.f64[node]


@pytest.mark.parametrize("first", [0, 1, 3])
def test_masks_without_strides(first, tmp_path):
    def make(n, mask):
        return Masked(x=np.arange(float(n)), mask=mask, bias=np.broadcast_to(2.0, n))

    examples = [make(first, np.broadcast_to(True, first)), make(2, np.array([True, False])),
                make(0, np.zeros(0, bool)), make(3, np.broadcast_to(np.True_, 3))]
    want = np.concatenate([e.mask for e in examples])
    batch = mg.batch(examples)
    np.testing.assert_array_equal(batch.mask, want, strict=True)
    np.testing.assert_array_equal(batch.bias, np.full(len(want), 2.0), strict=True)
    np.testing.assert_array_equal(batch[[3, 0]].mask, np.concatenate([examples[3].mask, examples[0].mask]))
    np.testing.assert_array_equal(np.concatenate([b.mask for b in mg.DataLoader(examples, 2)]), want)
    loss = lambda e: np.sum(np.where(e.mask, e.x + 1, 0.0))  # noqa: E731
    np.testing.assert_allclose(mg.vmap(loss)(batch), [loss(e) for e in examples])
    np.testing.assert_allclose(mg.compile(mg.vmap(loss))(batch), [loss(e) for e in examples])
    for have, e in zip(batch.unbatch(), examples, strict=True):
        np.testing.assert_array_equal(have.mask, e.mask, strict=True)
    data = mg.open_dataset(mg.save_dataset(tmp_path / "masks", examples, chunk=2), Masked)
    np.testing.assert_array_equal(data.mask, want)
    nested = mg.batch([batch, mg.batch(examples[:2])])
    np.testing.assert_array_equal(nested.mask, np.concatenate([want, want[:first + 2]]))


def test_unbatched_arrays_are_copies():
    batch = mg.batch([np.arange(3.0)], mg.f64[node])
    (_, *rest), tree = optree.tree_flatten(batch)
    again = optree.tree_unflatten(tree, (np.broadcast_to(1.0, 3), *rest))
    (value,) = again.unbatch()
    value[:] = 5.0  # a copy can be written to
    np.testing.assert_array_equal(again.values, np.ones(3))


# -- copies and pickles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_of_batches(again):
    plain = mg.batch([np.arange(n * 2.0).reshape(n, 2) for n in (3, 0, 1)], mg.f64[node, 2])
    masks = mg.batch([np.array([True]), np.array([False, True])], mg.bool_[node])
    blocks = mg.batch([np.ones((n, n)) for n in (2, 3)], mg.f64[node, node])
    nested = mg.batch([blocks, blocks[[1]]])
    f = mg.compile(mg.vmap(lambda x: np.sum(x)))
    for batch in (plain, masks, blocks, nested):
        whole = again(batch)
        assert whole.schema == batch.schema
        assert len(whole) == len(batch)
        assert optree.tree_structure(whole) == optree.tree_structure(batch)
        for a, b in zip(optree.tree_leaves(whole), optree.tree_leaves(batch), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)
        for a, b in zip(whole.unbatch(), batch.unbatch(), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    np.testing.assert_array_equal(f(again(plain)), f(plain))
    assert len(f.entries) == 1
    assert np.shares_memory(again(plain).values, plain.values) == (again is copy.copy)


def test_pickles_of_blank_fields_are_small():
    blocks = mg.batch([np.ones((400, 1))] * 3, mg.f64[node, edge])
    nested = mg.batch([blocks, blocks])
    assert sum(v.size for n, v in nested._fields.items() if n.startswith("blocks")) > 900_000
    assert len(pickle.dumps(nested)) < 100_000


def test_attributes_before_init_raise():
    empty = object.__new__(mg.Batch)
    for name in ("schema", "_fields", "x"):
        with pytest.raises(AttributeError):
            getattr(empty, name)


# -- absent fields, indices of 32 bits ---------------------------------------------------------------------------


@mg.example
class Partial:
    x: mg.f64[node]
    y: mg.f64[()] = None
    near: mg.index(node, null=-1)[node] = None


def test_numbers_take_the_place_of_absent_fields():
    examples = [Partial([1.0, 2.0], y=3.0), Partial([]), Partial([4.0], near=[0])]
    batch = mg.batch(examples, fill={"y": np.nan, "near": -1})
    np.testing.assert_array_equal(batch.y, [3, np.nan, np.nan])
    np.testing.assert_array_equal(batch.near, [-1, -1, 2])
    loss = mg.vmap(lambda g: np.where(np.isnan(g.y), 0.0, (np.sum(g.x) - g.y) ** 2) + np.sum(mg.gather(g.x, g.near)))
    np.testing.assert_array_equal(loss(batch), [0, 0, 4])
    whole = mg.batch([Partial([1.0])] * 2, fill={"y": 0})
    assert whole.y.tolist() == [0, 0]
    assert whole.near is None


def test_numbers_for_other_fields_are_refused():
    with pytest.raises(mg.BatchError, match=r"fill=\{'x': ...\}: Partial has no optional field.*near, y"):
        mg.batch([Partial([1.0])], fill={"x": 0})
    with pytest.raises(mg.BatchError, match=r"example 1: Partial.near\[0\] is 5: no such row"):
        mg.batch([Partial([1.0], near=[0]), Partial([2.0])], fill={"near": 5})
    with pytest.raises(mg.BatchError, match=r"fill=\{'y': number\} puts a number in its place"):
        mg.batch([Partial([1.0], y=1.0), Partial([2.0])])


@mg.example
class Narrow:
    x: mg.f64[node]
    src: mg.index(node, dtype=np.int32)[edge]
    up: mg.index(node, null=-1, dtype=mg.i32)[node]


@mg.example
class Wide:
    x: mg.f64[node]
    src: mg.index(node)[edge]
    up: mg.index(node, null=-1)[node]


def message_sum(w, g):
    n = g.x.shape[0]
    up = mg.gather(g.x, g.up)
    return np.sum(np.tanh(g.x[g.src] * w)) + np.sum(mg.segment_sum(g.x ** 2, g.up, n, null=-1) * up) * w


@pytest.mark.parametrize("sizes", [(3, 0, 1, 4), (0, 2), (2, 1, 0)])
def test_indices_of_32_bits_equal_those_of_64(sizes):
    rng = np.random.default_rng(0)
    fields = [(rng.normal(size=n), rng.integers(0, n, 2 * n) if n else [], rng.integers(-1, n, n)) for n in sizes]
    narrow, wide = (mg.batch([cls(*f) for f in fields]) for cls in (Narrow, Wide))
    assert narrow.src.dtype == narrow.up.dtype == np.int32
    np.testing.assert_array_equal(narrow.src, wide.src)
    for a, b in zip(narrow, narrow[np.arange(len(narrow))[::-1]][::-1], strict=True):
        same(a, b)
    loss = mg.value_and_grad(mg.mean_loss(message_sum, in_axes=(None, 0)))
    want = loss(0.6, wide)
    for run in (loss, mg.compile(loss, backend="numpy"), mg.compile(loss, backend="native"),
                mg.microbatch(loss, 2, in_axes=(None, 0)), mg.compile(mg.microbatch(loss, 1, in_axes=(None, 0)))):
        np.testing.assert_allclose(run(0.6, narrow), want)
    np.testing.assert_allclose(mg.vmap(message_sum, in_axes=(None, 0))(0.6, narrow),
                               [message_sum(0.6, g) for g in narrow])
    assert copy.deepcopy(narrow).src.dtype == pickle.loads(pickle.dumps(narrow)).src.dtype == np.int32
    assert str(Narrow.__schema__.fields["up"]) == "index(node, null=-1, dtype=int32)[node]"


def test_indices_of_32_bits_do_not_wrap():
    @mg.example
    class Large:
        n: mg.count(node)
        src: mg.index(node, dtype=np.int32)[edge]

    with pytest.raises(mg.BatchError, match=r"Large.src is an index of int32, which has 2147483647 rows at most"):
        mg.batch([Large(2**31, [0]), Large(2, [1])])
    with pytest.raises(mg.BatchError, match="an index is of int64 or int32"):
        mg.index(node, dtype=np.int16)


def test_counts_of_a_batch_read_as_words():
    row, rates = mg.axis("row"), mg.axis("rates")
    Table = mg.example(type("Table", (), {"__annotations__": {"a": mg.f64[row], "b": mg.f64[rates]}}))
    one, two = Table([1.0], [1.0, 2.0]), Table([1.0, 2.0], [1.0])
    assert repr(mg.batch([one])) == "<batch of Table: 1 example, 1 row, 2 rates>"
    assert repr(mg.batch([one, two])) == "<batch of Table: 2 examples, 3 rows, 3 rates>"
    nested = repr(mg.batch([mg.batch([one]), mg.batch([one, two])]))  # with an axis called example
    assert nested.startswith("<batch of batches of Table: 2 examples, 4 rows, 5 rates, 3 examples, ")
