"""`explore` on good and bad input: its stages, its errors, and the size of its page."""

import pathlib
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli
from minigrad.explorer import seed

node, edge = mg.axis("node"), mg.axis("edge")


@mg.example
class Molecule:
    x: mg.f64[node, 2]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    y: mg.f64[()]


def graph_loss(w, g):
    return (np.sum(mg.segment_sum((g.x @ w)[g.src], g.dst, g.x.shape[0])) - g.y) ** 2


def molecules():
    rng = np.random.default_rng(0)
    return mg.batch([Molecule(rng.normal(size=(n, 2)), rng.integers(0, n, m), rng.integers(0, n, m), 1.0)
                     for n, m in ((3, 4), (1, 0), (2, 5))])


def test_stages_go_from_an_example_to_the_program():
    page = mg.explore(seed.s, seed.params, seed.examples)
    titles = [stage.title for stage in page.stages]
    assert titles[:6] == ["one example", "copies", "batch", "mean", "each gradient", "tangent"]
    assert "simplify" in titles
    graphs = {stage.title: stage.graph for stage in page.stages}
    one = mg.trace(seed.s)(seed.params, seed.examples[0][0])
    for title, graph in (("one example", one), ("mean", one.vmap(in_axes=(None, 0)).mean())):
        assert re.sub(" *#.*", "", str(graphs[title])) == re.sub(" *#.*", "", str(graph))  # lines of the call differ
    assert graphs["copies"].count("tanh") == 3 * graphs["batch"].count("tanh")
    assert "np.tanh" in page.html


def test_a_page_refers_to_nothing_outside():
    text = mg.explore(seed.s, seed.params, seed.examples).html
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|import\(""", text)
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}


def test_a_frame_and_a_drawing_stand_in_a_notebook():
    bundle = mg.explore(seed.s, seed.params, seed.examples)._repr_mimebundle_()
    assert "<iframe" in bundle["text/html"]
    assert "data:image/svg+xml;base64," in bundle["text/html"]
    assert "f64[] = " in bundle["image/svg+xml"]
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"] == "<Exploration of s: 8 stages>"


def test_examples_along_other_axes_and_pytrees():
    page = mg.explore(lambda p, x, y: np.sum(p["w"] * x["a"]) * y, {"w": np.ones(2)},
                      ({"a": np.ones((2, 5))}, np.arange(5.0)), in_axes=(None, 1, 0))
    batch = page.stages[2].graph
    assert [str(n.type) for n in batch.inputs] == ["f64[2]", "f64[2, B]", "f64[B]"]


def test_ragged_batches():
    page = mg.explore(graph_loss, np.ones(2), molecules())
    titles = [stage.title for stage in page.stages]
    assert titles[:4] == ["one example", "batch", "mean", "gradient"]
    assert "[nodes, 2]" in str(page.stages[1].graph)


def test_arguments_beside_a_ragged_batch():
    def loss(w, factor, g, power):
        return factor * graph_loss(w, g) ** power

    graphs, factors = molecules(), np.arange(1.0, 4.0)
    page = mg.explore(loss, np.ones(2), (factors, graphs, 2), in_axes=(None, 0, 0, None))
    expected = np.mean([loss(np.ones(2), c, g, 2) for c, g in zip(factors, graphs, strict=True)])
    mean = page.stages[2].graph
    assert np.isclose(mean(np.ones(2), factors, graphs, 2), expected)
    assert str(mean.inputs[1].type) == "f64[B]"


def test_lists_of_examples_are_batches():
    pages = [mg.explore(graph_loss, np.ones(2), examples) for examples in (molecules(), molecules().unbatch())]
    assert pages[0].html == pages[1].html


@pytest.mark.parametrize(("examples", "message"), [
    ((molecules(), molecules()), r"explore\(<lambda>\): expected one Batch of examples, got 2"),
    ((molecules(), np.ones(4)), "the arguments have 3 and 4 examples")])
def test_arguments_that_do_not_fit_a_ragged_batch(examples, message):
    with pytest.raises(mg.BatchError, match=message):
        mg.explore(lambda w, g, x: graph_loss(w, g), np.ones(2), examples)


@pytest.mark.parametrize(("loss", "params", "examples", "error", "message"), [
    (lambda w, x: w * x, np.ones(3), (np.ones((4, 3)),), mg.TraceError, r"explore\(<lambda>\): .*returns f64\[3\]"),
    (lambda w, x: None, np.ones(3), (np.ones((4, 3)),), mg.TraceError, "Did you forget `return`"),
    (lambda w, x: np.sum(w @ x), np.ones(3), (np.ones((4, 5)),), mg.ShapeError, "matmul"),
    (lambda w, x: 1 / 0, np.ones(3), (np.ones((4, 3)),), ZeroDivisionError, "division"),
    (lambda w, x: np.sum(x), np.ones(3), (np.ones((0, 3)),), mg.BatchError, "at least one example"),
    (lambda w, x: np.sum(x), np.ones(3), (np.ones((4, 3)), np.ones((5, 3))), mg.BatchError, "4 and 5 ex"),
    (lambda w, x: np.sum(x), np.ones(3), (), mg.BatchError, "maps no argument")])
def test_bad_input(loss, params, examples, error, message):
    with pytest.raises(error, match=message):
        mg.explore(loss, params, examples)


def test_in_axes_that_do_not_fit():
    with pytest.raises(mg.BatchError, match="in_axes has 1 entries, and the loss 2 arguments"):
        mg.explore(seed.s, seed.params, seed.examples, in_axes=(0,))
    with pytest.raises(mg.BatchError, match=r"shape \(6, 4\) has no axis 5"):
        mg.explore(seed.s, seed.params, seed.examples, in_axes=(None, 5))
    with pytest.raises(mg.BatchError, match=r"shape \(\) has no axis 0"):
        mg.explore(seed.s, seed.params, (3.0,))
    with pytest.raises(mg.BatchError, match="maps no argument"):
        mg.explore(seed.s, seed.params, seed.examples, in_axes=(None, None))


def test_parameters_that_are_not_floating_have_no_gradient():
    page = mg.explore(lambda p, x: np.sum(x * p["k"] * p["w"]), {"k": 3, "w": np.ones(2)}, (np.ones((4, 2)),))
    assert not {"gradient", "tangent"} & {stage.title for stage in page.stages}


def test_large_arrays_are_summarised():
    big = np.broadcast_to(np.float32(0.5), (2000, 2000))
    page = mg.trace(lambda x: np.max(x))(mg.f32[2000, 2000]).explore(big)
    assert len(page.html) < 250_000
    assert '"part":[24,24]' in page.html
    assert '"mean":0.5' in page.html


def test_graphs_of_one_value_and_without_results():
    assert len(mg.trace(lambda x: np.sin(x))(1.0).explore(2.0).stages) >= 2
    assert mg.trace(lambda x: ())(1.0).explore(2.0).stages[0].title == "graph"
    with pytest.raises(mg.TraceError, match=r"explore: expected 1 values \(x\), got 2"):
        mg.trace(np.sin)(1.0).explore(1.0, 2.0)
    with pytest.raises(mg.ShapeError, match="x"):
        mg.trace(np.sin)(mg.f64[3]).explore(np.ones(4))


def test_command_line_writes_a_page(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert cli.main(["explore", "--page", str(path), "--no-browser"]) == 0
    assert capsys.readouterr().out == f"page: {path}\n"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert cli.main(["explore", "--page", str(tmp_path / "no" / "page.html"), "--no-browser"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    script = tmp_path / "mine.py"
    script.write_text("import numpy as np\nparams = np.ones(2)\nexamples = (np.ones((3, 2)),)\n"
                      "def loss(w, x):\n    return np.sum(w * x)\n")
    assert cli.main(["explore", f"{script}:loss", "--page", str(path), "--no-browser"]) == 0


def test_open_prints_a_path_where_no_browser_is(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    path = mg.explore(seed.s, seed.params, seed.examples).open()
    assert pathlib.Path(path).read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(("name", "stage"), [("traced", "one example"), ("one", "one example"), ("many", "graph")])
def test_command_line_takes_traces_and_graphs(tmp_path, name, stage):
    script = tmp_path / "mine.py"
    script.write_text("import numpy as np\nimport minigrad as mg\nparams = np.ones(2)\nexamples = (np.ones((3, 2)),)\n"
                      "def loss(w, x):\n    return np.sum(w * x) ** 2\ntraced = mg.trace(loss)\n"
                      "one = traced(params, np.ones(2))\nmany = one.vmap(in_axes=(None, 0))\n")
    path = tmp_path / "page.html"
    assert cli.main(["explore", f"{script}:{name}", "--page", str(path), "--no-browser"]) == 0
    assert f'"title":"{stage}"' in path.read_text(encoding="utf-8")
