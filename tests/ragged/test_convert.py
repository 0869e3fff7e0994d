"""Other libraries' graphs and matrices, there and back."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad.ragged.convert import from_networkx, from_pyg, to_networkx, to_pyg

node, edge, user, item = map(mg.axis, ("node", "edge", "user", "item"))


@mg.example
class Graph:
    x: mg.f32[node, 3]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    w: mg.f32[edge]
    y: mg.f32[()]
    note: mg.f32[2] = None


@mg.example
class Ratings:
    u: mg.f32[user, 4]
    n_items: mg.count(item)
    src: mg.index(user)[edge]
    dst: mg.index(item)[edge]
    stars: mg.i32[edge]


RATES = ("user", "rates", "item")
PATHS = {"u": ("user", "x"), "n_items": ("item", "num_nodes"), "src": (RATES, "edge_index", 0),
         "dst": (RATES, "edge_index", 1), "stars": (RATES, "edge_attr")}


def graph(seed=0, nodes=5, edges=7, note=None):
    rng = np.random.default_rng(seed)
    return Graph(x=rng.normal(size=(nodes, 3)).astype(np.float32), src=rng.integers(0, max(nodes, 1), edges),
                 dst=rng.integers(0, max(nodes, 1), edges), w=rng.normal(size=edges).astype(np.float32),
                 y=np.float32(rng.normal()), note=note)


def ratings(seed=0, users=3, items=4, edges=5):
    rng = np.random.default_rng(seed)
    return Ratings(u=rng.normal(size=(users, 4)).astype(np.float32), n_items=items, src=rng.integers(0, users, edges),
                   dst=rng.integers(0, items, edges), stars=rng.integers(1, 6, edges).astype(np.int32))


def assert_same(a, b):
    assert type(a) is type(b)
    for name in type(a).__schema__.fields:
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert np.asarray(left).dtype == np.asarray(right).dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)


# -- PyTorch Geometric -------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    pytest.importorskip("torch_geometric", exc_type=ImportError)
    return pytest.importorskip("torch")


@pytest.mark.parametrize("one", [graph(), graph(nodes=4, edges=0), graph(nodes=0, edges=0), graph(1, 1, 3),
                                 graph(note=np.float32([1, 2]))], ids=["plain", "no edges", "empty", "loops", "note"])
def test_round_trip_of_data(torch, one):
    paths = {"w": "edge_attr"}
    data = to_pyg(one, paths)
    assert type(data).__name__ == "Data"
    assert data.num_nodes == len(one.x)
    assert data.num_edges == len(one.src)
    data.validate()
    assert_same(from_pyg(data, Graph, paths), one)


def test_batches_of_data_are_batches_of_examples(torch):
    from torch_geometric.data import Batch

    several = [graph(0), graph(1, 0, 0), graph(2, 3, 0), graph(3)]
    theirs = Batch.from_data_list([to_pyg(g) for g in several])
    ours = mg.batch(several)
    np.testing.assert_array_equal(theirs.edge_index.numpy(), [ours.src, ours.dst])
    np.testing.assert_array_equal(theirs.ptr.numpy(), ours.offsets[node])
    np.testing.assert_array_equal(theirs.batch.numpy(), ours.segment_ids[node])
    np.testing.assert_array_equal(theirs.y.numpy(), ours.y)
    for a, b in zip(theirs.to_data_list(), several, strict=True):
        assert_same(from_pyg(a, Graph), b)


@mg.example
class Narrow:
    x: mg.f32[node, 2]
    src: mg.index(node, dtype=np.int32)[edge]
    dst: mg.index(node, dtype=np.int32)[edge]
    w: mg.f32[edge] = 1.0
    y: mg.f32[()] = 0.5
    z: mg.f32[node] = None


def test_indices_of_32_bits_and_defaults(torch):
    one = Narrow(np.ones((3, 2), np.float32), [0, 2], [1, 0])
    data = to_pyg(one)
    assert data.edge_index.dtype == torch.int64
    data.validate()
    assert_same(from_pyg(data, Narrow), one)
    del data.w, data.y
    assert_same(from_pyg(data, Narrow), one)
    assert_same(from_pyg(to_pyg(Narrow(np.ones((3, 2), np.float32), [], [])), Narrow),
                Narrow(np.ones((3, 2), np.float32), [], []))


def test_round_trip_of_hetero_data(torch):
    from torch_geometric.data import Batch

    several = [ratings(0), ratings(1, 2, 6, 0), ratings(2)]
    data = [to_pyg(r, PATHS) for r in several]
    assert data[1]["item"].num_nodes == 6
    assert data[1]["user"].num_nodes == 2
    for d, r in zip(data, several, strict=True):
        d.validate()
        assert_same(from_pyg(d, Ratings, PATHS), r)
    theirs, ours = Batch.from_data_list(data), mg.batch(several)
    np.testing.assert_array_equal(theirs[RATES].edge_index.numpy(), [ours.src, ours.dst])


def test_data_created_by_pyg(torch):
    from torch_geometric.data import Data

    data = Data(x=torch.zeros(3, 3), edge_index=torch.tensor([[0, 2], [1, 0]]), y=torch.tensor([2.0]),
                w=torch.ones(2, requires_grad=True))
    one = from_pyg(data, Graph)
    assert one.y == 2
    assert one.y.shape == ()
    assert one.note is None
    np.testing.assert_array_equal(one.dst, [1, 0])
    np.testing.assert_array_equal(one.w, [1, 1])


@pytest.mark.parametrize(("rows", "fits"), [
    ([[1, 2]], True), ([1, 2], True), ([[1], [2]], False), ([[1, 2, 3]], False)])
def test_one_row_is_the_value_of_a_graph(rows, fits):
    """`Data.y` of shape [1, k] is the value of one graph, and no other shape is bent to fit."""
    data = SimpleNamespace(x=np.zeros((1, 3), np.float32), edge_index=np.zeros((2, 0), int), w=np.zeros(0, np.float32),
                           y=np.float32([[4]]), note=np.float32(rows))
    if fits:
        one = from_pyg(data, Graph)
        np.testing.assert_array_equal(one.note, [1, 2])
        assert one.y == 4
    else:
        with pytest.raises(mg.ShapeError, match=r"Graph\.note"):
            from_pyg(data, Graph)


def test_numbers_of_python_are_the_value_of_a_graph():
    data = SimpleNamespace(x=np.zeros((1, 3), np.float32), edge_index=np.zeros((2, 0), int), w=np.zeros(0, np.float32),
                           y=np.float32(0), note=[1, 2])
    np.testing.assert_array_equal(from_pyg(data, Graph).note, np.float32([1, 2]))


def test_values_of_graphs_stack_in_batches_of_pyg(torch):
    from torch_geometric.data import Batch

    several = [graph(note=np.float32([1, 2])), graph(1, note=np.float32([3, 4]))]
    theirs = Batch.from_data_list([to_pyg(g) for g in several])
    np.testing.assert_array_equal(theirs.note, [[1, 2], [3, 4]])
    for a, b in zip(theirs.to_data_list(), several, strict=True):
        assert_same(from_pyg(a, Graph), b)


def test_missing_parts_of_data_are_named(torch):
    from torch_geometric.data import Data

    with pytest.raises(mg.BatchError, match=r"test_convert.py:\d+: from_pyg: Graph.w: nothing at w in Data"):
        from_pyg(Data(x=torch.zeros(3, 3), edge_index=torch.zeros(2, 0)), Graph)
    with pytest.raises(mg.BatchError, match="Graph has no field z"):
        to_pyg(graph(), {"z": "x"})
    with pytest.raises(mg.BatchError, match="dict is not a schema"):
        to_pyg({})
    with pytest.raises(mg.BatchError, match=r"edge_index has rows \[1\]"):
        to_pyg(graph(), {"src": "begin"})


# -- networkx ----------------------------------------------------------------------------------------------


@pytest.fixture
def nx():
    return pytest.importorskip("networkx")


@pytest.mark.parametrize("one", [graph(), graph(nodes=4, edges=0), graph(nodes=0, edges=0), graph(1, 1, 3),
                                 graph(note=np.float32([1, 2]))], ids=["plain", "no edges", "empty", "loops", "note"])
def test_round_trip_of_networkx_graphs(nx, one):
    back = from_networkx(to_networkx(one, create_using=nx.MultiDiGraph), Graph)
    order, again = (np.lexsort((g.w, g.dst, g.src)) for g in (one, back))  # networkx groups edges by their source
    for name in ("src", "dst", "w"):
        np.testing.assert_array_equal(getattr(one, name)[order], getattr(back, name)[again])
    np.testing.assert_array_equal(one.x, back.x)
    assert one.y == back.y
    np.testing.assert_array_equal(one.note, back.note)


def test_undirected_edges_become_two(nx):
    g = nx.Graph(y=1.5)
    g.add_node("c", x=[0, 0, 1])
    g.add_node("a", x=[1, 0, 0])
    g.add_node("b", x=[0, 1, 0])
    g.add_edge("a", "b", w=3)
    g.add_edge("c", "c", w=5)
    one = from_networkx(g, Graph)
    np.testing.assert_array_equal(one.x, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert sorted(zip(one.src.tolist(), one.dst.tolist(), one.w.tolist(), strict=True)) == [
        (0, 0, 5), (1, 2, 3), (2, 1, 3)]


def test_missing_attributes_and_multiple_edges_are_refused(nx):
    twice = Graph(x=np.zeros((2, 3), np.float32), src=[0, 0], dst=[1, 1], w=np.ones(2, np.float32), y=np.float32(0))
    with pytest.raises(mg.BatchError, match=r"2 edges, and a DiGraph keeps 1 of them.*MultiDiGraph"):
        to_networkx(twice)
    g = nx.DiGraph(y=0.0)
    g.add_edge(0, 1, w=1.0)
    with pytest.raises(mg.BatchError, match=r"Graph.x: node 0 has no attribute 'x'"):
        from_networkx(g, Graph)
    nx.set_node_attributes(g, {0: [0, 0, 0], 1: [0, 0, 0]}, "x")
    del g.graph["y"]
    with pytest.raises(mg.BatchError, match=r"Graph.y: the graph has no attribute 'y'"):
        from_networkx(g, Graph)
    with pytest.raises(mg.BatchError, match="one kind of nodes"):
        to_networkx(ratings())
    with pytest.raises(mg.BatchError, match=r"Graph.begin is not a field of one index per edge"):
        to_networkx(graph(), ends=("begin", "dst"))


def test_batches_of_pyg_are_not_one_graph(torch):
    from torch_geometric.data import Batch

    batch = Batch.from_data_list([to_pyg(graph()), to_pyg(graph(1))])
    with pytest.raises(mg.BatchError, match=r"mg.batch\(\[mg.from_pyg\(g, Graph\) for g in batch.to_data_list\(\)\]\)"):
        from_pyg(batch, Graph)
    with pytest.raises(mg.BatchError, match=r"convert with mg.from_pyg\(data, Class\)"):
        mg.batch(batch.to_data_list())
