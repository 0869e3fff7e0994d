"""A dataset gathers the batch that `batch` makes of the same examples, from memory and from files."""

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad.ragged.dataset import Growing, as_dataset, open_dataset, save_dataset
from minigrad.ragged.loader import DataLoader

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Graph:
    x: mg.f32[node, 3]
    src: mg.index(node)[edge]
    parent: mg.index(node, null=-1)[node]
    root: mg.index(node, null=-1)[()]
    blocks: mg.f64[node, node]
    scale: mg.shared(mg.f64[2])
    n_edges: mg.count(edge)
    y: mg.f32[()] = None


FIELDS = ("x", "src", "parent", "root", "blocks", "scale", "n_edges", "y")


def graph(rng, nodes, edges, y=True):
    return Graph(x=rng.normal(size=(nodes, 3)).astype(np.float32), src=rng.integers(0, max(nodes, 1), edges),
                 parent=rng.integers(-1, nodes, nodes), root=int(rng.integers(-1, nodes)), n_edges=edges,
                 blocks=rng.normal(size=(nodes, nodes)), scale=np.array([1.0, 2.0]),
                 y=np.float32(rng.normal()) if y else None)


def graphs(seed=0, n=23, **kwargs):
    rng = np.random.default_rng(seed)
    sizes = [(0, 0), *((int(a), int(b) if a else 0) for a, b in rng.integers(0, 6, (n - 2, 2))), (0, 0)]
    return [graph(rng, a, b, **kwargs) for a, b in sizes]


def assert_same(left, right):
    assert len(left) == len(right)
    for name in FIELDS:
        a, b = getattr(left, name), getattr(right, name)
        if a is None or b is None:
            assert a is b is None
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    for axis in (node, edge):
        np.testing.assert_array_equal(left.offsets[axis], right.offsets[axis])
        np.testing.assert_array_equal(left.segment_ids[axis], right.segment_ids[axis])


@pytest.fixture(params=["memory", "files"])
def packed(request, tmp_path):
    examples = graphs()
    if request.param == "memory":
        return examples, as_dataset(examples)
    return examples, open_dataset(save_dataset(tmp_path / "graphs", iter(examples), chunk=5), Graph)


def test_a_batch_of_a_dataset_is_the_batch_of_those_examples(packed):
    examples, dataset = packed
    rng = np.random.default_rng(1)
    assert len(dataset) == len(examples)
    assert_same(dataset, mg.batch(examples))
    for which in ([0], [22], [3, 3, 1], [0, 22], rng.permutation(23), np.arange(5, 9)):
        assert_same(dataset[which], mg.batch([examples[i] for i in which]))
    assert len(dataset[np.zeros(0, int)]) == 0


def test_an_epoch_is_every_example_once(packed):
    examples, dataset = packed
    loader = DataLoader(dataset, max_rows={node: 12, edge: 20}, shuffle=True, seed=0, prefetch=2)
    back = {}
    for which, batch in zip(loader.batches(0), loader, strict=True):
        assert batch.lengths[node].sum() <= 12
        assert batch.lengths[edge].sum() <= 20
        back |= dict(zip(which.tolist(), batch.unbatch(), strict=True))
    assert sorted(back) == list(range(len(examples)))
    for k, one in back.items():
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(one, name), getattr(examples[k], name))


def test_what_is_in_files_stays_there(tmp_path):
    dataset = open_dataset(save_dataset(tmp_path / "graphs", graphs()), Graph)
    base = dataset.x
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        dataset.x[0] = 1
    some = dataset[np.arange(4)]
    some.x[:] = 1  # read into memory: the caller's own
    assert not np.any(dataset.x[:len(some.x)] == 1)


def test_the_files_are_plain_numpy_files(tmp_path):
    folder = save_dataset(tmp_path / "graphs", graphs(), chunk=4)
    whole = mg.batch(graphs())
    np.testing.assert_array_equal(np.load(folder / "src.npy"), whole.src)
    np.testing.assert_array_equal(np.load(folder / "lengths node.npy"), whole.lengths[node])


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_the_chunks_make_no_difference(chunk, tmp_path):
    examples = graphs(y=False)
    assert_same(open_dataset(save_dataset(tmp_path / "d", iter(examples), chunk=chunk), Graph), mg.batch(examples))
    assert_same(open_dataset(save_dataset(tmp_path / "again", mg.batch(examples), chunk=chunk), Graph),
                mg.batch(examples))


def test_examples_are_taken_as_they_come(tmp_path):
    alive = []

    def examples():
        rng = np.random.default_rng(0)
        for _ in range(20):
            alive.append(1)
            yield graph(rng, 3, 2)

    written = []
    plain = Growing.append
    try:
        Growing.append = lambda self, rows: (written.append(len(alive)), plain(self, rows))
        save_dataset(tmp_path / "d", examples(), chunk=5)
    finally:
        Growing.append = plain
    assert sorted(set(written)) == [5, 10, 15, 20]


def test_arrays_of_a_declared_type(tmp_path):
    rng = np.random.default_rng(0)
    word = mg.axis("word")
    sentences = [rng.normal(size=(n, 2)) for n in (3, 0, 5)]
    dataset = open_dataset(save_dataset(tmp_path / "d", sentences, mg.f64[word, 2]), mg.f64[word, 2])
    np.testing.assert_array_equal(dataset[[2, 0]].values, np.concatenate([sentences[2], sentences[0]]))


def test_only_empty_examples(tmp_path):
    word = mg.axis("word")
    empty = [np.zeros((0, 2))] * 3
    dataset = open_dataset(save_dataset(tmp_path / "d", empty, mg.f64[word, 2]), mg.f64[word, 2])
    assert dataset[[0, 1]].values.shape == (0, 2)


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_folder_that_is_there(tmp_path):
    folder = save_dataset(tmp_path / "d", graphs())
    with pytest.raises(mg.BatchError, match=r"^test_dataset.py:\d+: save_dataset: .* is there already"):
        save_dataset(folder, graphs())


def test_no_example(tmp_path):
    with pytest.raises(mg.BatchError, match="there is no example"):
        save_dataset(tmp_path / "d", [])
    assert not (tmp_path / "d").exists()


def test_a_writing_that_was_interrupted(tmp_path):
    def examples():
        yield from graphs()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        save_dataset(tmp_path / "d", examples(), chunk=4)
    with pytest.raises(mg.BatchError, match=r"no dataset, or its writing was interrupted"):
        open_dataset(tmp_path / "d", Graph)


def test_another_schema(tmp_path):
    @mg.example
    class Other:
        x: mg.f32[node, 4]
        src: mg.index(node)[edge]

    folder = save_dataset(tmp_path / "d", graphs())
    with pytest.raises(mg.BatchError, match=r"x is f32\[node, 3\] there and f32\[node, 4\] here; parent is .* missing"):
        open_dataset(folder, Other)


def test_a_format_of_the_future(tmp_path):
    folder = save_dataset(tmp_path / "d", graphs())
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(mg.BatchError, match="format 99"):
        open_dataset(folder, Graph)


def test_a_shared_field_that_differs_between_chunks(tmp_path):
    first = graphs(n=4)
    odd = Graph(**{n: getattr(first[1], n) for n in FIELDS if n != "scale"}, scale=np.array([1.0, 3.0]))
    with pytest.raises(mg.BatchError, match=r"Graph\.scale is shared, but differs"):
        save_dataset(tmp_path / "d", [*first, odd], chunk=4)


def test_an_optional_field_that_is_there_in_some_chunks(tmp_path):
    with pytest.raises(mg.BatchError, match="the same optional fields"):
        save_dataset(tmp_path / "d", [*graphs(n=4), *graphs(n=4, y=False)], chunk=4)
