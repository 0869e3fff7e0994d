"""The decorator of transforms: it traces a call, runs the rewritten graph, and continues a trace around it."""

import pickle

import numpy as np

import minigrad as mg
from minigrad.transforms.trace import Call, transform

from .common import close

X = np.array([[0.3, -0.4], [1.2, 0.7]])


@transform
def scaled(f, factor=2.0):
    """Multiply what a function returns."""

    def rewrite(call):
        graph = call.trace().graph
        return graph.replace(outputs=tuple(o * factor for o in graph.outputs))

    rewrite.in_axes = "as declared"
    return rewrite


def waves(x, *, shift=0.0):
    """Waves."""
    return {"sin": np.sin(x + shift), "cos": np.cos(x)}


def test_a_transform_runs_the_rewritten_graph():
    out = scaled(waves, 3.0)(X, shift=1.0)
    close(out["sin"], 3 * np.sin(X + 1))
    close(out["cos"], 3 * np.cos(X))


def test_a_transform_continues_the_trace_around_it():
    graph = mg.trace(lambda x: scaled(waves)(x)["sin"] + 1.0)(X)
    assert [n.prim.name for n in graph.nodes if n.prim.name not in ("input", "full")] == ["add", "sin", "mul", "add"]
    close(mg.grad(lambda x: np.sum(scaled(waves)(x)["sin"]))(X), 2 * np.cos(X))
    close(mg.vmap(lambda x: scaled(scaled(waves))(x)["cos"])(X), 4 * np.cos(X))


def test_the_transformed_function_looks_like_its_function_and_pickles():
    f = scaled(waves, factor=3.0)
    assert (f.__name__, f.__doc__, f.in_axes) == ("waves", "Waves.", "as declared")
    assert repr(f).startswith("<minigrad.scaled(<function waves")
    close(pickle.loads(pickle.dumps(f))(X)["cos"], 3 * np.cos(X))
    assert scaled.__doc__ == "Multiply what a function returns."


def test_inputs_of_a_call_are_the_values_of_the_trace_around_it():
    def inside(x):
        call = Call(waves, (x,), {"shift": 1.0})
        first, second = call.inputs
        assert first is x._node
        assert (second.prim.name, second.type) == ("input", call.types[1])
        return x

    mg.trace(inside)(X)
    assert [n.prim.name for n in Call(waves, (X,), {}).inputs] == ["input"]
