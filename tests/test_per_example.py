"""What is asked of per-example gradients, against the loop and against libraries that hook into layers."""

import functools

import numpy as np
import optree
import pytest

import minigrad as mg

rng = np.random.default_rng(0)
PARAMS = {"W1": rng.normal(size=(7, 5)), "b1": rng.normal(size=5), "W2": rng.normal(size=(5, 3)),
          "b2": rng.normal(size=3)}
X, LABELS = rng.normal(size=(12, 7)), rng.integers(0, 3, 12)
AXES = (None, 0, 0)


def loss(p, x, label):
    z = np.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    z = z - z.max()
    return np.log(np.exp(z).sum()) - z[label]


GRADIENTS = [mg.grad(loss)(PARAMS, x, label) for x, label in zip(X, LABELS, strict=True)]
FLAT = np.array([np.concatenate([v.ravel() for v in g.values()]) for g in GRADIENTS])


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["walked", "compiled"])
class TestAgainstTheLoop:
    def test_norms(self, wrap):
        np.testing.assert_allclose(wrap(mg.per_example.norms(loss, in_axes=AXES))(PARAMS, X, LABELS),
                                   np.linalg.norm(FLAT, axis=1), rtol=1e-10)

    def test_clipped_mean(self, wrap):
        bound = np.median(np.linalg.norm(FLAT, axis=1))
        got = wrap(mg.per_example.clipped_mean(loss, bound, in_axes=AXES))(PARAMS, X, LABELS)
        scale = np.minimum(1, bound / np.linalg.norm(FLAT, axis=1))
        want = (FLAT * scale[:, None]).mean(axis=0)
        np.testing.assert_allclose(np.concatenate([got[k].ravel() for k in PARAMS]), want, rtol=1e-10, atol=1e-14)

    def test_gram(self, wrap):
        np.testing.assert_allclose(wrap(mg.per_example.gram(loss, in_axes=AXES))(PARAMS, X, LABELS), FLAT @ FLAT.T,
                                   rtol=1e-9, atol=1e-12)

    def test_noise_scale(self, wrap):
        trace = FLAT.var(axis=0, ddof=1).sum()
        want = trace / ((FLAT.mean(axis=0) ** 2).sum() - trace / len(FLAT))
        np.testing.assert_allclose(wrap(mg.per_example.noise_scale(loss, in_axes=AXES))(PARAMS, X, LABELS), want,
                                   rtol=1e-9)


@pytest.mark.parametrize("wrap", [lambda f: f, mg.compile], ids=["walked", "compiled"])
def test_the_noise_scale_of_one_example_is_refused(wrap):
    with pytest.raises(mg.BatchError, match="needs at least two examples, got 1"):
        wrap(mg.per_example.noise_scale(loss, in_axes=AXES))(PARAMS, X[:1], LABELS[:1])


def network(torch):
    layers = torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    for layer, w, b in ((layers[0], "W1", "b1"), (layers[2], "W2", "b2")):
        layer.weight.data, layer.bias.data = torch.tensor(PARAMS[w].T.copy()), torch.tensor(PARAMS[b])
    return torch.nn.Sequential(*layers)


@pytest.mark.filterwarnings("ignore")
def test_norms_against_opacus():
    torch = pytest.importorskip("torch", reason="Opacus needs PyTorch (extra bench)")
    opacus = pytest.importorskip("opacus.grad_sample", reason="Opacus is not installed (extra bench)")
    model = opacus.GradSampleModuleFastGradientClipping(
        network(torch), batch_first=True, loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True)
    torch.nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(LABELS), reduction="sum").backward()
    got = mg.compile(mg.per_example.norms(loss, in_axes=AXES))(PARAMS, X, LABELS)
    np.testing.assert_allclose(got, model.get_norm_sample().numpy(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_norms_against_backpack():
    torch = pytest.importorskip("torch", reason="BackPACK needs PyTorch (extra bench)")
    backpack = pytest.importorskip("backpack", reason="BackPACK is not installed")
    extensions = pytest.importorskip("backpack.extensions")
    model, criterion = backpack.extend(network(torch)), backpack.extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    with backpack.backpack(extensions.BatchL2Grad()):
        criterion(model(torch.tensor(X)), torch.tensor(LABELS)).backward()
    squares = sum(p.batch_l2 for p in model.parameters()).numpy()
    got = mg.compile(mg.per_example.squared_norms(loss, in_axes=AXES))(PARAMS, X, LABELS)
    np.testing.assert_allclose(got, squares, rtol=1e-9)


def test_microbatch_takes_the_axes_of_the_statistic():
    def loss(p, x):
        return np.sum(np.tanh(x @ p["W"]) ** 2)

    rng = np.random.default_rng(3)
    p, X = {"W": rng.normal(size=(3, 2))}, rng.normal(size=(10, 3))
    for f in (mg.per_example.clipped_mean(loss, 0.5, in_axes=(None, 0)),
              mg.per_example.norms(loss, in_axes=(None, 0)), mg.per_example.squared_norms(loss, in_axes=(None, 0))):
        whole, parts = f(p, X), mg.microbatch(f, 4)(p, X)
        for a, b in zip(optree.tree_leaves(whole), optree.tree_leaves(parts), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_clipping_of_zero_gradients_divides_by_no_zero():
    def loss(w, x):
        return np.sum(w * x) ** 2 / 2

    X = np.array([[0.0, 0.0], [3.0, 4.0]])  # gradients (0, 0) and 7 (3, 4), of norms 0 and 35
    with np.errstate(all="raise"):
        np.testing.assert_allclose(
            mg.per_example.clipped_mean(loss, 5.0, in_axes=(None, 0))(np.ones(2), X), [1.5, 2.0])


@pytest.mark.parametrize("bound", [np.inf, 1e300])
def test_a_bound_above_all_norms_leaves_the_mean(bound):
    def loss(w, x):
        return np.sum(w * x) ** 2 / 2

    X = np.array([[0.0, 0.0], [3.0, 4.0]])
    clipped = mg.per_example.clipped_mean(loss, bound, in_axes=(None, 0))
    for f in (clipped, mg.compile(clipped)):
        np.testing.assert_allclose(f(np.ones(2), X), [10.5, 14.0])


@pytest.mark.parametrize("statistic", [mg.per_example.norms, mg.per_example.gram, mg.per_example.noise_scale,
                                       functools.partial(mg.per_example.clipped_mean, bound=1.0)])
def test_effects_of_a_loss_happen_once_per_example(statistic, capsys):
    def loss(w, x):
        mg.print("{}", x)
        return np.sum(w * x) ** 2

    statistic(loss, in_axes=(None, 0))(np.ones(()), np.arange(3))
    assert capsys.readouterr().out == "0\n1\n2\n"


@pytest.mark.parametrize("bound", [0, -1.0, np.float32(-1), float("nan")])
def test_clipping_to_a_norm_that_is_not_positive_is_refused(bound):
    with pytest.raises(mg.BatchError, match=r"clipped_mean\(dot\): bound must be positive, got"):
        mg.per_example.clipped_mean(np.dot, bound)


@pytest.mark.parametrize("name", ["squared_norms", "norms", "gram", "noise_scale"])
def test_statistics_have_the_names_of_the_arguments(name):
    def loss(p, x, *, y):
        return (p["w"] @ x - y) ** 2

    statistic = getattr(mg.per_example, name)(loss, in_axes=(None, 0))
    graph = mg.trace(statistic)({"w": np.ones(3)}, np.ones((4, 3)), y=np.ones(4))
    assert (graph.name, graph.names) == (name, ("p['w']", "x", "y"))


def test_clipped_mean_has_the_names_of_the_arguments():
    clipped = mg.per_example.clipped_mean(lambda w, x: w @ x, 1.0, in_axes=(None, 0))
    graph = mg.trace(clipped)(np.ones(3), np.ones((4, 3)))
    assert (graph.name, graph.names) == ("clipped_mean", ("w", "x"))
