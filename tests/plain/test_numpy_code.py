"""`numpy_code`: programs that never name minigrad, unedited: values, derivatives, batches, programs."""

import importlib.util
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import optree
import pytest

import minigrad as mg

FOLDER = Path(__file__).parents[2] / "examples" / "numpy_programs"
PROGRAMS = sorted(FOLDER.glob("*.py"))
SUPPORTED_ALREADY = {"pca"}


def load(path):
    name = f"numpy_program_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def data(module):
    examples = module.examples if isinstance(module.examples, tuple) else (module.examples,)
    return examples, tuple(e[0] for e in examples)


def finite_differences(f, params, *example):
    """Return the gradient of NumPy's own run of a function, by central differences."""
    leaves, tree = optree.tree_flatten(params)
    gradient = []
    for k, leaf in enumerate(leaves):
        slope = np.zeros(np.shape(leaf))
        for place in np.ndindex(slope.shape):
            values = []
            for step in (1e-6, -1e-6):
                moved = np.array(leaf, dtype=float)
                moved[place] += step
                new = [*leaves[:k], moved if moved.ndim else float(moved), *leaves[k + 1:]]
                values.append(f(optree.tree_unflatten(tree, new), *example))
            slope[place] = (values[0] - values[1]) / 2e-6
        gradient.append(slope)
    return optree.tree_unflatten(tree, gradient)


def assert_close(a, b, **tolerance):
    optree.tree_map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_there_are_twenty_programs_that_do_not_name_minigrad():
    assert len(PROGRAMS) == 20
    assert not [p.stem for p in PROGRAMS if re.search(r"minigrad|\bmg\b|jax|autograd", p.read_text())]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_programs_run_unedited(path):
    module = load(path)
    examples, one = data(module)
    expected = module.loss(module.params, *one)
    loss = mg.numpy_code(module.loss)
    names = dict(vars(module))

    value, gradient = mg.value_and_grad(loss)(module.params, *one)
    np.testing.assert_allclose(value, expected)
    assert_close(gradient, finite_differences(module.loss, module.params, *one), rtol=1e-4, atol=1e-5)

    axes = (None, *(0 for _ in examples))
    batch = mg.compile(mg.vmap(loss, in_axes=axes))
    size = len(examples[0])
    np.testing.assert_allclose(batch(module.params, *examples),
                               [module.loss(module.params, *(e[i] for e in examples)) for i in range(size)])
    np.testing.assert_allclose(batch(module.params, *(e[:2] for e in examples)),
                               [module.loss(module.params, *(e[i] for e in examples)) for i in range(2)])
    assert len(batch.entries) == 1
    step = mg.compile(mg.grad(mg.mean_loss(loss, in_axes=axes)))
    each = [mg.grad(loss)(module.params, *(e[i] for e in examples)) for i in range(size)]
    assert_close(step(module.params, *examples), optree.tree_map(lambda *g: np.mean(g, axis=0), *each), atol=1e-12)
    assert vars(module) == names or all(vars(module)[k] is v for k, v in names.items())


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_without_it_programs_name_the_way_out(path):
    module = load(path)
    _, one = data(module)
    if path.stem in SUPPORTED_ALREADY:
        mg.grad(module.loss)(module.params, *one)
        return
    with pytest.raises(mg.TraceError, match=rf"{path.stem}\.py:\d+: .*mg\.numpy_code\("):
        mg.grad(module.loss)(module.params, *one)


def squares(x):
    out = np.zeros(3)
    out[0] = x[0] ** 2
    return out


def test_outside_of_traces_the_function_runs_on_numpy():
    seen = []

    def f(x):
        seen.append(type(x))
        return np.array([x[0], 1.0])

    assert mg.numpy_code(f)(np.ones(2)).tolist() == [1.0, 1.0]
    assert seen == [np.ndarray]


def test_results_are_ordinary_arrays_for_the_code_around():
    g = mg.numpy_code(lambda x: {"traced": np.array([x, x]), "known": np.eye(2), "number": 2.0})

    def around(x):
        results = g(x)
        assert type(results["traced"]) is mg.Array
        assert type(results["known"]) is np.ndarray
        with pytest.raises(TypeError):
            results["traced"][0] = 1.0
        return results["traced"].sum() + results["known"].sum()

    assert mg.grad(around)(1.0) == 2.0


def test_the_function_decorates_pickles_and_prints():
    @mg.numpy_code
    def f(x):
        """Return a pair."""
        return np.array([x, 2 * x]).sum()

    assert f.__doc__ == "Return a pair."
    assert mg.grad(f)(1.0) == 3.0
    copy = pickle.loads(pickle.dumps(mg.numpy_code(squares)))
    assert mg.grad(lambda x: copy(x)[0])(np.array([3.0])).tolist() == [6.0]
    assert "numpy_code" in repr(mg.numpy_code(squares))


def test_errors_name_the_users_line():
    def branch(x):
        y = np.array([x[0], 1.0])
        if y[0] > 0:
            return y.sum()
        return x[0]

    with pytest.raises(mg.TraceError, match=r"test_numpy_code\.py:\d+: `if y\[0\] > 0`: .*np\.where"):
        mg.grad(mg.numpy_code(branch))(np.ones(2))


def test_printed_graphs_have_the_lines_of_the_users_code():
    graph = mg.trace(mg.numpy_code(squares))(mg.f64[2])
    assert "test_numpy_code.py" in str(graph)
    assert "mutable_array" not in str(graph)


def test_random_draws_are_told_of():
    rng = np.random.default_rng(0)

    def noisy(x):
        return np.array([x[0], 1.0]) @ rng.normal(size=2)

    with pytest.warns(UserWarning, match="draws random numbers while noisy"):
        mg.trace(mg.numpy_code(noisy))(np.ones(2))
