"""Each tool meets each kind of ragged program: the numbers are those of a loop over the examples."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli, interpreters
from minigrad.draw.values import input_arrays, input_sizes
from minigrad.errors import GraphError

from . import features
from .features import FEATURES, MORE, arguments, examples, params, word
from .ragged.cases import close

BACKENDS = ("numpy", "native")


def mean(f):
    return mg.mean_loss(f, in_axes=arguments(f)[1])


def step(f, backend="numpy"):
    return mg.compile(mg.value_and_grad(mean(f)), backend=backend)


def looped(f):
    """Return the loss and the gradient of each example, one by one."""
    each = [mg.value_and_grad(f)(params, s, *MORE.get(f, ())) for s in examples]
    return np.array([v for v, _ in each]), np.array([g for _, g in each])


def whole(f, number=None):
    return tuple(x[:number].mean(axis=0) for x in looped(f))


def same(have, want):
    for h, w in zip(have, want, strict=True):
        close(h, w)


def json(f):
    graph = mg.trace(mg.value_and_grad(mean(f)))(*arguments(f)[0])
    with pytest.raises(GraphError, match=r"has no JSON form.*: pickle the graph"):
        graph.to_json()
    same(pickle.loads(pickle.dumps(graph))(*arguments(f)[0]), whole(f))
    plain = graph.replace(in_tree=None, out_tree=None)
    if f is features.printed:
        with pytest.raises(GraphError, match="print, a parameter of type Opaque, has no JSON form: pickle the graph"):
            plain.to_json()
        return
    again = mg.Graph.from_json(plain.to_json())
    assert str(again) == str(plain)
    arrays = input_arrays(graph, arguments(f)[0], "test")
    same(interpreters.evaluate(again, arrays, input_sizes(again, arrays)), whole(f))


def drawing(f):
    graph = mg.trace(mg.value_and_grad(mean(f)))(*arguments(f)[0])
    assert "<svg" in graph.to_svg()
    assert "<svg" in graph.with_values(*arguments(f)[0]).to_svg()


def pickles(f):
    compiled = step(f)
    compiled(*arguments(f)[0])
    same(pickle.loads(pickle.dumps(compiled))(*arguments(f)[0]), whole(f))


def statistics(f):
    args, axes = arguments(f)
    _, gradients = looped(f)
    close(mg.per_example_grad(f, in_axes=axes)(*args), gradients)
    close(mg.per_example.gram(f, in_axes=axes)(*args), gradients @ gradients.T)
    n, of_mean = len(gradients), np.sum(gradients.mean(axis=0) ** 2)
    trace = (np.mean(np.sum(gradients**2, axis=1)) - of_mean) * n / (n - 1)
    close(mg.per_example.noise_scale(f, in_axes=axes)(*args), trace / (of_mean - trace / n))


def clipping(f):
    args, axes = arguments(f)
    _, gradients = looped(f)
    norms = np.linalg.norm(gradients, axis=1)
    bound = float(np.mean(norms))
    clipped = (gradients / np.maximum(1, norms / bound)[:, None]).mean(axis=0)
    for backend in BACKENDS:
        close(mg.compile(mg.per_example.norms(f, in_axes=axes), backend=backend)(*args), norms)
        close(mg.compile(mg.per_example.clipped_mean(f, bound, in_axes=axes), backend=backend)(*args), clipped)


def microbatches(f):
    args, axes = arguments(f)
    same(mg.microbatch(mg.value_and_grad(mean(f)), 2, axes)(*args), whole(f))
    for backend in BACKENDS:
        compiled = mg.compile(mg.value_and_grad(mg.microbatch(mean(f), 2)), backend=backend)
        for n in (5, 3):
            same(compiled(params, examples[:n], *MORE.get(f, ())), whole(f, n))
        assert len(compiled.entries) == 1


def workers(f):
    args, axes = arguments(f)
    with ThreadPoolExecutor(2) as executor:
        same(mg.distribute(mg.value_and_grad(mean(f)), executor, 3, in_axes=axes)(*args), whole(f))


def checkpoints(f):
    args, axes = arguments(f)
    for backend in BACKENDS:
        loss = mg.mean_loss(mg.checkpoint(f), in_axes=axes)
        same(mg.compile(mg.value_and_grad(loss), backend=backend)(*args), whole(f))


def loaders(f):
    compiled, more = step(f), MORE.get(f, ())
    for parts in (mg.DataLoader(examples, max_rows={word: 8}, shuffle=True, seed=1), mg.DataLoader(
            examples, memory=1 << 20, measure=lambda b: compiled.memory(params, b, *more))):
        values, gradients, sizes = zip(*((*compiled(params, b, *more), len(b)) for b in parts), strict=True)
        same((np.average(values, 0, sizes), np.average(gradients, 0, sizes)), whole(f))
    assert len(compiled.entries) == 1


def audits(f):
    args, axes = arguments(f)
    report = mg.audit(mg.grad(mean(f)), f, params, args[1:], in_axes=axes, progress=False)
    assert report.right, report.verdict


def explorer(f):
    args, axes = arguments(f)
    assert f.__name__ in mg.explore(f, params, args[1:], in_axes=axes).html
    assert f.__name__ in mg.trace(mg.value_and_grad(mean(f)))(*args).explore(*args).html


def checks(f):
    args, axes = arguments(f)
    mg.check_batching(f, args, axes)
    mg.check_grads(f, (params, examples[0], *MORE.get(f, ())))


def comparison(f):
    args, axes = arguments(f)
    report = mg.compare(f, params, args[1:], in_axes=axes, repeats=1, progress=False, backend="numpy")
    close(report["giant"].loss, whole(f)[0])


def second_order(f):
    args, _ = arguments(f)
    d = np.array([1.0, 0.5, -0.5])
    each = [mg.hvp(lambda w, s=s: f(w, s, *MORE.get(f, ())), (params,), (d,)) for s in examples]
    close(mg.hvp(lambda w: mean(f)(w, *args[1:]), (params,), (d,)), np.mean(each, axis=0))


TOOLS = {f.__name__: f for f in (json, drawing, pickles, statistics, clipping, microbatches, workers, checkpoints,
                                 loaders, audits, explorer, checks, comparison, second_order)}
COMMANDS = {"explain": [], "check": [], "compare": ["--no-report", "--repeats=1", "--backend=numpy"],
            "explore": ["--no-browser"]}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("tool", TOOLS)
def test_tools(tool, feature):
    TOOLS[tool](FEATURES[feature])


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, feature, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--examples", "static_examples"] if feature == "static" else []
    assert cli.main([command, f"{features.__file__}:{feature}", *COMMANDS[command], *data]) == 0, capsys.readouterr()
