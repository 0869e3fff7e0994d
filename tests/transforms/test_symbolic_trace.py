"""`trace`: a function becomes a graph, with a symbol for each size that a `vmap` inside it maps."""

import numpy as np

import minigrad as mg


def test_mapped_sizes_are_symbols():
    graph = mg.trace(mg.vmap(lambda x: np.sum(x) ** 2))(np.ones((5, 3)))
    assert [str(n.type) for n in graph.inputs] == ["f64[B, 3]"]
    for size in (1, 4):
        np.testing.assert_array_equal(graph(np.ones((size, 3))), [9.0] * size)


def test_sizes_that_are_mapped_together_are_one_symbol():
    graph = mg.trace(mg.vmap(lambda x, y: x @ y))(np.ones((5, 3)), np.ones((5, 3)))
    assert len(graph.symbols) == 1
    nested = mg.trace(mg.vmap(mg.vmap(lambda x: x * 2.0)))(np.ones((5, 4, 3)))
    assert [s.hint for s in nested.symbols] == [5, 4]


def test_a_size_whose_number_the_code_needs_stays_a_number():
    graph = mg.trace(lambda x: mg.vmap(np.sin)(x) * len(range(int(x.shape[0]))))(np.ones(5))
    assert not graph.symbols
    assert any("needs its number" in note for note in graph.notes)
    np.testing.assert_allclose(graph(np.ones(5)), 5 * np.sin(np.ones(5)))


def test_names_are_paths_into_the_arguments():
    graph = mg.trace(lambda p, x: p["w"] @ x + p["b"][0])({"w": np.ones(2), "b": (1.0,)}, np.ones(2))
    assert set(graph.names) == {"p['w']", "p['b'][0]", "x"}
