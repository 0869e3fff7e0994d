"""A dataset gathers the batch that `batch` makes of the same examples, from memory and from files."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

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


def test_indexing_dataset_equals_batching_examples(packed):
    examples, dataset = packed
    rng = np.random.default_rng(1)
    assert len(dataset) == len(examples)
    assert_same(dataset, mg.batch(examples))
    for which in ([0], [22], [3, 3, 1], [0, 22], rng.permutation(23), np.arange(5, 9)):
        assert_same(dataset[which], mg.batch([examples[i] for i in which]))
    assert len(dataset[np.zeros(0, int)]) == 0


def test_epochs_have_every_example_once(packed):
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


def test_opened_arrays_are_memory_mapped(tmp_path):
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


def test_files_are_npy_files(tmp_path):
    folder = save_dataset(tmp_path / "graphs", graphs(), chunk=4)
    whole = mg.batch(graphs())
    np.testing.assert_array_equal(np.load(folder / "src.npy"), whole.src)
    np.testing.assert_array_equal(np.load(folder / "lengths node.npy"), whole.lengths[node])


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_chunk_sizes_write_equal_files(chunk, tmp_path):
    examples = graphs(y=False)
    assert_same(open_dataset(save_dataset(tmp_path / "d", iter(examples), chunk=chunk), Graph), mg.batch(examples))
    assert_same(open_dataset(save_dataset(tmp_path / "again", mg.batch(examples), chunk=chunk), Graph),
                mg.batch(examples))


def test_examples_are_written_lazily(tmp_path):
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


def test_arrays_of_three_ragged_axes(tmp_path):
    kind = mg.f64[mg.axis("a"), mg.axis("b"), mg.axis("c")]
    boxes = [np.arange(6.0).reshape(1, 2, 3), np.zeros((2, 0, 1)), np.arange(8.0).reshape(2, 2, 2)]
    dataset = open_dataset(save_dataset(tmp_path / "d", boxes, kind), kind)
    np.testing.assert_array_equal(dataset[[2, 0]].values, np.concatenate([boxes[2], boxes[0]], axis=None))


def test_only_empty_examples(tmp_path):
    word = mg.axis("word")
    empty = [np.zeros((0, 2))] * 3
    dataset = open_dataset(save_dataset(tmp_path / "d", empty, mg.f64[word, 2]), mg.f64[word, 2])
    assert dataset[[0, 1]].values.shape == (0, 2)


# -- what is refused ---------------------------------------------------------------------------------------


def test_existing_folders_are_refused(tmp_path):
    folder = save_dataset(tmp_path / "d", graphs())
    with pytest.raises(mg.BatchError, match=r"^test_dataset.py:\d+: save_dataset: .* exists already"):
        save_dataset(folder, graphs())


def test_datasets_without_examples_are_refused(tmp_path):
    with pytest.raises(mg.BatchError, match="needs at least one example"):
        save_dataset(tmp_path / "d", [])
    assert not (tmp_path / "d").exists()


def test_interrupted_writes_are_refused(tmp_path):
    def examples():
        yield from graphs()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        save_dataset(tmp_path / "d", examples(), chunk=4)
    with pytest.raises(mg.BatchError, match=r"not a dataset, or its writing was interrupted"):
        open_dataset(tmp_path / "d", Graph)


def test_datasets_of_other_schemas_are_refused(tmp_path):
    @mg.example
    class Other:
        x: mg.f32[node, 4]
        src: mg.index(node)[edge]

    folder = save_dataset(tmp_path / "d", graphs())
    with pytest.raises(mg.BatchError, match=r"x is f32\[node, 3\] there and f32\[node, 4\] here; parent is .* missing"):
        open_dataset(folder, Other)


def test_later_formats_are_refused(tmp_path):
    folder = save_dataset(tmp_path / "d", graphs())
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(mg.BatchError, match="format 99"):
        open_dataset(folder, Graph)


def test_shared_fields_that_differ_between_chunks_are_refused(tmp_path):
    first = graphs(n=4)
    odd = Graph(**{n: getattr(first[1], n) for n in FIELDS if n != "scale"}, scale=np.array([1.0, 3.0]))
    with pytest.raises(mg.BatchError, match=r"Graph\.scale is shared, but differs"):
        save_dataset(tmp_path / "d", [*first, odd], chunk=4)


def test_optional_fields_of_some_chunks_are_refused(tmp_path):
    with pytest.raises(mg.BatchError, match="the same optional fields"):
        save_dataset(tmp_path / "d", [*graphs(n=4), *graphs(n=4, y=False)], chunk=4)


# -- files that are damaged, or made to do harm --------------------------------------------------------------


def saved(folder):
    return save_dataset(folder, graphs(), chunk=5)


def put(index, value):
    def change(array):
        array[index] = value

    return change


def test_lengths_whose_sum_wraps_are_refused(tmp_path):
    folder = saved(tmp_path / "d")
    total = int(np.load(folder / "lengths node.npy").sum())
    wraps = np.zeros(23, np.int64)
    wraps[:5] = 2**62, 2**62, 2**62, 2**62, total
    assert wraps.sum() == total
    np.save(folder / "lengths node.npy", wraps)
    with pytest.raises(mg.BatchError, match=r"lengths node.npy: the examples have more rows than there can be"):
        open_dataset(folder, Graph)


def test_block_sizes_that_wrap_are_refused(tmp_path):
    blocks = mg.f64[mg.axis("a"), mg.axis("b")]
    folder = save_dataset(tmp_path / "d", [np.zeros((0, 0)), np.zeros((0, 0))], blocks)
    for name in "ab":
        np.save(folder / f"lengths {name}.npy", np.array([2**60, 0]))
    with pytest.raises(mg.BatchError, match=r"value.npy: .* elements .*, by lengths a.npy and lengths b.npy"):
        open_dataset(folder, blocks)


@pytest.mark.parametrize(("name", "change", "words"), [
    ("lengths node", put(3, -2), "lengths node.npy: example 3 has -2 rows"),
    ("lengths edge", lambda a: a[:-1], r"lengths edge.npy: its shape is \[22\], expected \[23\]"),
    ("lengths node", lambda a: a.astype(np.int32), "lengths node.npy: its dtype is int32, expected int64"),
    ("lengths node", put(1, 1), r"its shape is .*, expected \[\d+, 3\], by lengths node.npy"),
    ("x", lambda a: a.astype(np.float64), "x.npy: its dtype is float64, expected float32"),
    ("x", lambda a: a.astype(">f4"), "x.npy: its dtype is >f4, expected float32"),
    ("x", lambda a: a[1:], r"x.npy: its shape is \[\d+, 3\], expected"),
    ("x", lambda a: np.asfortranarray(a), "x.npy: its shape is .* in Fortran order"),
    ("y", lambda a: a[None], r"y.npy: its shape is \[1, 23\], expected \[23\]"),
    ("scale", lambda a: a[:1], r"scale.npy: its shape is \[1\], expected \[2\]"),
    ("src", put(0, 10**6), r"src.npy: element \[0\] is 1000000, not a row of node of its example, by lengths node"),
    ("src", put(-1, 0), r"src.npy: element \[\d+\] is 0, not a row of node of its example"),
    ("src", put(0, -1), r"src.npy: element \[0\] is -1, not a row"),
    ("parent", put(0, -2), r"parent.npy: element \[0\] is -2, not a row"),
    ("root", put(2, 10**6), r"root.npy: element \[2\] is 1000000, not a row")])
def test_arrays_that_do_not_belong_to_the_dataset_are_refused(name, change, words, tmp_path):
    folder = saved(tmp_path / "d")
    path = folder / f"{name}.npy"
    array = np.load(path)
    np.save(path, array if (made := change(array)) is None else made)
    with pytest.raises(mg.BatchError, match=words):
        open_dataset(folder, Graph)


def test_the_first_wrong_index_of_several_axes_is_named(tmp_path):
    @mg.example
    class Pairs:
        x: mg.f64[node]
        ends: mg.index(node)[edge, 2]

    examples = [Pairs(x=np.ones(n), ends=np.full((2, 2), n - 1)) for n in (3, 2, 1)]
    folder = save_dataset(tmp_path / "d", examples)
    ends = np.load(folder / "ends.npy")
    assert open_dataset(folder, Pairs)[[1]].ends.tolist() == [[1, 1], [1, 1]]
    ends[2, 1] = ends[5, 0] = 99
    np.save(folder / "ends.npy", ends)
    with pytest.raises(mg.BatchError, match=r"ends.npy: element \[2, 1\] is 99, not a row of node of its example"):
        open_dataset(folder, Pairs)


@pytest.mark.parametrize(("damage", "words"), [
    (lambda data: data[:-1], r"x.npy: it holds \d+ bytes, but the shape .* has \d+"),
    (lambda data: data + b"0", r"x.npy: it holds \d+ bytes, but the shape .* has \d+"),
    (lambda data: b"", "x.npy: not an .npy file"),
    (lambda data: data[:40], "x.npy: not an .npy file"),
    (lambda data: data.replace(b"'descr'", b"'descr "), "x.npy: not an .npy file"),
    (lambda data: data.replace(b"<f4", b"|O "), "x.npy: "),
    (lambda data: data[:6] + b"\x02" + data[7:], r"x.npy: of version \(2, 0\)")])
def test_damaged_array_files_are_refused(damage, words, tmp_path):
    path = saved(tmp_path / "d") / "x.npy"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(mg.BatchError, match=words):
        open_dataset(tmp_path / "d", Graph)


def test_missing_array_files_are_refused(tmp_path):
    (saved(tmp_path / "d") / "src.npy").unlink()
    with pytest.raises(mg.BatchError, match=r"src.npy: the file does not exist"):
        open_dataset(tmp_path / "d", Graph)


def test_bools_of_other_bytes_are_refused(tmp_path):
    word = mg.axis("word")
    folder = save_dataset(tmp_path / "d", [np.array([True, False]), np.array([True])], mg.bool_[word])
    data = (folder / "value.npy").read_bytes()
    (folder / "value.npy").write_bytes(data[:-1] + b"\x07")
    with pytest.raises(mg.BatchError, match=r"value.npy: element \[2\] is 7, neither 0 nor 1"):
        open_dataset(folder, mg.bool_[word])


@pytest.mark.parametrize(("key", "value", "words"), [
    ("format", 2, "of format 2"), ("format", True, "of format True"), ("schema", None, "schema: expected a value"),
    ("fields", [], "fields: expected a value of type dict"), ("fields", {}, "x is missing there"),
    ("absent", "y", "absent: expected a value of type list"), ("absent", ["x"], "absent: 'x' is not an optional"),
    ("absent", [[]], r"absent: \[\] is not an optional"), ("examples", -1, "examples: -1, expected"),
    ("examples", 0, "examples: 0, expected"), ("examples", 10**30, "examples: 10+, expected"),
    ("examples", 22, r"lengths node.npy: its shape is \[23\], expected \[22\]"),
    ("examples", 23.0, "examples: expected a value of type int"), ("examples", True, "of type int, got True")])
def test_damaged_descriptions_are_refused(key, value, words, tmp_path):
    path = saved(tmp_path / "d") / "dataset.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {key: value}))
    with pytest.raises(mg.BatchError, match=words):
        open_dataset(tmp_path / "d", Graph)
    del about[key]
    path.write_text(json.dumps(about))
    with pytest.raises(mg.BatchError, match=r"dataset.json|format None"):
        open_dataset(tmp_path / "d", Graph)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, "\ud800", "9" * 10_000])
def test_descriptions_that_are_not_json_objects_are_refused(text, tmp_path):
    path = saved(tmp_path / "d") / "dataset.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(mg.BatchError, match=r"dataset.json"):
        open_dataset(tmp_path / "d", Graph)


def mutations(folder, seed, count):
    """Damage one file of a dataset after the other, at random places, and use what is opened in every way."""
    rng = np.random.default_rng(seed)
    saved(folder)
    files = sorted(folder.iterdir())
    opened = 0
    for _ in range(count):
        path = files[rng.integers(len(files))]
        before = path.read_bytes()
        data = bytearray(before)
        what = rng.integers(4)
        if what == 0:
            data = data[:rng.integers(len(data))]
        elif what == 1:
            data += bytes(rng.integers(0, 256, rng.integers(1, 40), dtype=np.uint8))
        else:
            first = 128 if what == 3 and len(data) > 128 else 0  # 3: the elements alone
            for at in rng.integers(first, len(data), rng.integers(1, 9)):
                data[at] = rng.choice([0, 1, 127, 128, 255, data[at] ^ 1 << int(rng.integers(8))])
        path.write_bytes(data)
        dataset = None
        with contextlib.suppress(mg.BatchError):
            dataset = open_dataset(folder, Graph)
        if dataset is not None:
            opened += 1
            mg.batch(dataset.unbatch())
            dataset[rng.permutation(len(dataset))].unbatch()
            loss = lambda g: np.sum(g.x[g.src]) + np.sum(g.blocks) + mg.gather(g.x, g.parent).sum()  # noqa: E731
            mg.vmap(loss)(dataset)
        path.write_bytes(before)
    assert_same(open_dataset(folder, Graph), mg.batch(graphs()))
    return opened


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_raises_errors(seed, tmp_path):
    code = ("from pathlib import Path; from tests.ragged.test_dataset import mutations; "
            f"print(mutations(Path({str(tmp_path / 'd')!r}), {seed}, 250))")
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", code], capture_output=True,
                          text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < int(done.stdout) < 250
