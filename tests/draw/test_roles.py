"""Roles of nodes in graphs of one example, of a batch and of a gradient."""

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize("size", [None, 4])
def test_roles_tell_shared_nodes_from_combined_ones(size):
    example = mg.trace(lambda w, x: np.sum(np.tanh(x) * w) + np.sum(w**2))(mg.f64[3], mg.f64[3])
    assert {example.role(n) for n in example.nodes} == {"per-example"}
    mean = example.vmap(in_axes=(None, 0), size=size).mean()
    operations = [(n.prim.name, mean.role(n)) for n in mean.nodes if n not in mean.inputs]
    assert ("tanh", "batched") in operations
    assert ("square", "shared") in operations  # of w alone
    assert [name for name, role in operations if role == "combined"] == ["mean", "add"]  # w's own part is added once
    assert mean.role(mean.inputs[0]) == "shared"
    gradient = mean.grad("w")
    assert [gradient.role(n) for n in gradient.outputs] == ["gradient"]
    with pytest.raises(KeyError):
        mean.role(gradient.outputs[0])
