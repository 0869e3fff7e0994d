"""The correspondence of nodes through the stages."""

import numpy as np

import minigrad as mg
from minigrad.explorer import seed
from tests.explorer.test_exploration import graph_loss, molecules


def by_title(page):
    return {stage.title: stage for stage in page.stages}


def keyed(stage, key):
    return [n for n in stage.graph.nodes if stage.keys[n] == key]


def test_each_value_of_an_example_is_found_in_the_batch():
    stages = by_title(mg.explore(seed.s, seed.params, seed.examples))
    one, batch = stages["one example"], stages["batch"]
    for node in one.graph.nodes:
        (twin,) = keyed(batch, one.keys[node])
        assert twin.prim is node.prim
        assert twin.shape in (node.shape, (*batch.graph.inputs[1].shape[:1], *node.shape))


def test_each_copy_of_a_value_has_its_key():
    stages = by_title(mg.explore(seed.s, seed.params, seed.examples))
    one, copies = stages["one example"], stages["copies"]
    (h,) = [n for n in one.graph.nodes if n.prim.name == "square"]
    assert [n.prim.name for n in keyed(copies, one.keys[h])] == ["square"] * 3
    (scale, again) = [n for n in one.graph.nodes if n.prim.name == "exp"]
    assert {n.prim.name for n in keyed(copies, one.keys[scale])} == {"exp"}
    assert copies.keys.keys() >= set(copies.graph.nodes)
    assert again is not scale


def test_gradient_stage_shares_forward_keys_with_mean_stage():
    stages = by_title(mg.explore(seed.s, seed.params, seed.examples))
    mean, gradient = stages["mean"], stages["gradient"]
    assert all(gradient.keys[n] == mean.keys[n] for n in mean.graph.nodes)
    back = [n for n in gradient.graph.nodes if "vjp" in n.rules]
    assert back
    assert not {gradient.keys[n] for n in back} & set(mean.keys.values())


def test_stage_cotangents_equal_grad():
    stages = by_title(mg.explore(seed.s, seed.params, seed.examples))
    gradient = stages["gradient"]
    w = gradient.graph.inputs[0]
    slope = gradient.graph.replace(outputs=(gradient.cotangents[w],), out_names=(), out_tree=None)
    np.testing.assert_allclose(slope(seed.params, seed.examples[0]),
                               mg.grad(mg.mean_loss(seed.s, in_axes=(None, 0)))(seed.params, seed.examples[0]))


def test_values_keep_their_keys_through_passes():
    page = mg.explore(seed.s, seed.params, seed.examples)
    before, after = page.stages[-2:]
    kept = [n for n in after.graph.nodes if after.keys[n] in set(before.keys.values())]
    assert len(kept) > 0.8 * len(after.graph.nodes)


def test_packed_nodes_are_keyed_to_example_nodes():
    one, batch = mg.explore(graph_loss, np.ones(2), molecules()).stages[:2]
    pairs = {n.prim.name: {m.prim.name for m in keyed(batch, one.keys[n])} for n in one.graph.nodes}
    assert pairs["gather"] == {"gather"}
    assert pairs["sum"] == {"scatter_add"}
    assert pairs["square"] == {"square"}
