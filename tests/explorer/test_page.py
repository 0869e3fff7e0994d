"""The page in a browser: its values are NumPy's, its steps return, and edited values are the library's."""

import pathlib
import re
import zipfile

import numpy as np
import pytest

import minigrad as mg
from minigrad import explorer, interpreters
from minigrad.explorer import kernels, page, seed
from minigrad.explorer.record import Arrays, stage_record
from minigrad.explorer.stages import GraphStage, number
from minigrad.graph import PRIMITIVES, ArrayType, Graph
from minigrad.primitive import placeholder
from tests.explorer.test_exploration import graph_loss, molecules

W, (X,) = seed.params, seed.examples
LOSS = "s"
VALUES = """k => minigradExplorer.stages[k].nodes.map(n => {
    const a = minigradExplorer.valueOf(minigradExplorer.stages[k], n);
    return a && [a.shape, Array.from(a.data)]; })"""


def numbers(tab, stage):
    """Return the arrays that the page holds for a stage."""
    return [None if v is None else np.array(v[1], float).reshape(v[0]) for v in tab.evaluate(VALUES, stage)]


def titles(exploration):
    return [stage.title for stage in exploration.stages]


@pytest.fixture
def seeded():
    return mg.explore(seed.s, W, (X,))


def by_hand(w, x):
    """Return the values of the seed's program for one example, and its gradient."""
    scale, h = np.exp(w[-1]), x @ w[:-1]
    a = np.tanh(h) * scale
    loss = (a - 0.5) ** 2 + a * a * x.mean()
    slope = 2 * (a - 0.5) + 2 * a * x.mean()
    return {"h": h, "a": a, "loss": loss, "gradient": np.append(slope * scale * (1 - np.tanh(h) ** 2) * x, slope * a)}


def test_page_values_equal_plain_numpy(show, seeded):
    tab = show(seeded)
    rows = [by_hand(W, x) for x in X]
    batch = numbers(tab, titles(seeded).index("batch"))
    for name in ("h", "a", "loss"):
        want = np.array([row[name] for row in rows])
        assert any(v.shape == want.shape and np.allclose(v, want, rtol=1e-14) for v in batch), name
    stage = seeded.stages[titles(seeded).index("gradient")]
    shown = dict(zip(stage.graph.nodes, numbers(tab, titles(seeded).index("gradient")), strict=True))
    value, gradient = (shown[n] for n in stage.graph.outputs)
    np.testing.assert_allclose(value, np.mean([row["loss"] for row in rows]), rtol=1e-14)
    np.testing.assert_allclose(gradient, np.mean([row["gradient"] for row in rows], axis=0), rtol=1e-13)


def test_every_stage_holds_the_library_s_values(show, seeded):
    tab = show(seeded)
    for k, stage in enumerate(seeded.stages):
        rows = X[:3] if stage.copies else X[0] if stage.title == "one example" else X
        sizes = {s: len(X) for s in stage.graph.symbols}
        given = [W, rows, *([np.ones(5)] if stage.title == "tangent" else [])]
        everything = stage.graph.replace(outputs=stage.graph.nodes, out_names=(), out_tree=None)
        for have, want in zip(numbers(tab, k), interpreters.evaluate(everything, given, sizes), strict=True):
            np.testing.assert_array_equal(have, want)


def test_cotangents_are_slopes_by_differences(show, seeded):
    """The cotangent of a value is the slope of the mean loss, were the value moved."""
    tab = show(seeded)
    k = titles(seeded).index("gradient")
    values = numbers(tab, k)
    nodes = tab.evaluate(
        "k => minigradExplorer.stages[k].nodes.map(n => [n.op, n.cotangent === undefined ? -1 : n.cotangent])", k
    )
    moved = [i for i, (op, _) in enumerate(nodes) if op == "tanh"]
    assert len(moved) == 2  # f occurs twice
    scale, t = np.exp(W[-1]), np.tanh(X @ W[:-1])
    for i in moved:
        def mean(d):
            a, b = (t + d) * scale, t * scale
            first = (a - 0.5) ** 2 + a * b * X.mean(1)
            second = (b - 0.5) ** 2 + a * b * X.mean(1)
            return (first / len(X), second / len(X))
        slopes = [(u - v) / 2e-6 for u, v in zip(mean(1e-6), mean(-1e-6), strict=True)]
        assert any(np.allclose(values[nodes[i][1]], s, rtol=1e-6, atol=1e-9) for s in slopes)


def test_steps_forth_and_back_return(show, seeded):
    tab = show(seeded)
    tab.evaluate(
        "k => { minigradExplorer.state.stage = k; minigradExplorer.draw(); }", titles(seeded).index("gradient")
    )
    state = "[document.querySelector('.formula').textContent, document.querySelectorAll('.node.waiting').length]"
    tab.keyboard.press("ArrowRight")
    first, seen = tab.evaluate(state), []
    count = int(first[0].split(" of ")[1].split(":")[0])
    for _ in range(count - 1):
        tab.keyboard.press("ArrowRight")
        seen.append(tab.evaluate(state))
    assert seen[-1][0].startswith(f"backward {count} of {count}")
    assert seen[-1][1] == 0
    assert [waiting for _, waiting in seen] == sorted((w for _, w in seen), reverse=True)
    for want in [*seen[-2::-1], first]:
        tab.keyboard.press("ArrowLeft")
        assert tab.evaluate(state) == want
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.querySelectorAll('.node.waiting').length") == 0


def test_formulas_have_the_numbers_of_the_chosen_example(show, seeded):
    tab = show(seeded)
    k = titles(seeded).index("batch")
    tab.get_by_role("tab", name="batch").click()
    tab.get_by_label("example", exact=True).select_option("4")
    i = next(i for i, n in enumerate(seeded.stages[k].graph.nodes) if n.prim.name == "tanh")
    tab.locator(f".node[data-node='{i}']").click()
    h = by_hand(W, X[4])["h"]
    assert f"{float(f'{np.tanh(h):.5g}')} = tanh({float(f'{h:.5g}')})" in tab.locator("aside").inner_text()


def test_edited_arguments_give_the_library_s_values(show, seeded):
    tab = show(seeded)
    tab.get_by_role("tab", name="gradient", exact=True).click()
    tab.locator(".node[data-node='0']").click()
    tab.get_by_role("button", name="table").click()
    tab.get_by_label("w [1]", exact=True).fill("0.75")
    tab.get_by_label("w [1]", exact=True).press("Enter")
    moved = W.copy()
    moved[1] = 0.75
    value, gradient = mg.value_and_grad(mg.mean_loss(seed.s, in_axes=(None, 0)))(moved, X)
    k = titles(seeded).index("gradient")
    shown = dict(zip(seeded.stages[k].graph.nodes, numbers(tab, k), strict=True))
    for node, want in zip(seeded.stages[k].graph.outputs, (value, gradient), strict=True):
        np.testing.assert_allclose(shown[node], want, rtol=1e-13, atol=1e-15)
    rate = tab.get_by_label("learning rate")
    rate.fill("0.5")
    tab.get_by_role("button", name="gradient step").click()
    node = seeded.stages[k].graph.inputs[0]
    np.testing.assert_allclose(
        numbers(tab, k)[seeded.stages[k].graph.nodes.index(node)], moved - 0.5 * gradient, rtol=1e-13
    )
    tab.get_by_role("button", name="reset values").click()
    np.testing.assert_array_equal(numbers(tab, k)[0], W)


def test_edits_reach_the_other_stages_and_scalars(show):
    def loss(p, x, y):
        return (np.sum(p["w"] * x) + p["b"] - y) ** 2

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=3), "b": np.array(0.5)}
    X, Y = rng.normal(size=(5, 3)), rng.normal(size=5)
    exploration = mg.explore(loss, params, (X, Y))
    tab = show(exploration)
    tab.get_by_role("tab", name="mean").click()
    tab.get_by_role("button", name="p['b'], input").click()
    field = tab.get_by_label("p['b']", exact=True)
    field.fill("2")
    field.press("Enter")
    params["b"] = np.array(2.0)
    tab.get_by_role("button", name="y, input").click()
    tab.get_by_role("button", name="table").click()
    tab.get_by_label("y [0]", exact=True).fill("-1.5")
    tab.get_by_label("y [0]", exact=True).press("Enter")
    Y[0] = -1.5
    each = np.array([loss(params, x, y) for x, y in zip(X, Y, strict=True)])
    for title, want in (("one example", each[0]), ("copies", each[:3].mean()), ("batch", each), ("mean", each.mean())):
        k = titles(exploration).index(title)
        stage = exploration.stages[k]
        shown = dict(zip(stage.graph.nodes, numbers(tab, k), strict=True))[stage.graph.outputs[0]]
        np.testing.assert_allclose(shown, want, rtol=1e-12)


def test_edits_that_cannot_be_are_refused_with_a_reason(show):
    tab = show(mg.explore(graph_loss, np.ones(2), molecules()))
    tab.get_by_role("tab", name="mean").click()
    tab.get_by_role("button", name="g['src'], input").click()
    tab.get_by_role("button", name="table").click()
    before = numbers(tab, 2)
    for text, reason in (("99", "an index is out of range: 99 of 6"), ("0.5", "expected an integer")):
        field = tab.get_by_label("g['src'] [0]", exact=True)
        field.fill(text)
        field.press("Enter")
        assert tab.locator(".formula").inner_text() == reason
        for have, want in zip(numbers(tab, 2), before, strict=True):
            np.testing.assert_array_equal(have, want)


def operations():
    """Return (name, sample) of each operation that the page evaluates."""
    for name, prim in sorted(PRIMITIVES.items()):
        if name in page.operations() or kernels.javascript(prim) is not None:
            for i, sample in enumerate(prim.samples()):
                if all(a.size for a in sample.arrays) and all(
                    a.dtype.kind != "f" or a.itemsize == 8 for a in sample.arrays
                ):
                    yield f"{name}-{i}", prim, sample


def test_the_page_computes_each_operation_as_numpy_does(show):
    stages, feeds, pool = [], [], Arrays()
    for name, prim, sample in operations():
        inputs = tuple(placeholder(ArrayType(a.shape, a.dtype)) for a in map(np.asarray, sample.arrays))
        node = prim(*inputs, **sample.params)
        stages.append(GraphStage(name, "", Graph(inputs, (node,))))
        feeds.append([np.asarray(a) for a in sample.arrays])
    number(stages)
    bodies = []
    records = [stage_record(s, arrays, {}, pool, bodies) for s, arrays in zip(stages, feeds, strict=True)]
    text = page.page("operations", records, pool.records, PRIMITIVES.values(), bodies=bodies)
    tab = show(explorer.Exploration("operations", tuple(stages), text, ""))
    made = tab.evaluate("""() => minigradExplorer.stages.map(s => {
        const inputs = s.nodes.map(n => n.input ? minigradExplorer.valueOf(s, n) : null);
        if (s.body || s.nodes.some(n => n.held && n.held.some(h => h.body === undefined))) return []; // it did not run
        const bodies = minigradExplorer.stages.filter(s => s.body);
        const all = evaluate(s, inputs, KERNELS, {bodies}), out = s.outputs.map(([, i]) => all[i])[0];
        return (out.parts || [out]).map(a => [a.shape, Array.from(a.data, String)]); })""")
    compared = set()
    for stage, arrays, parts in zip(stages, feeds, made[:len(stages)], strict=True):
        result = interpreters.evaluate(stage.graph, arrays)[0]
        results = result if isinstance(result, tuple) else (result,)
        for (shape, data), want in zip(parts, results, strict=False):
            have = np.array([float(v.replace("Infinity", "inf")) for v in data]).reshape(shape)
            np.testing.assert_allclose(have, np.asarray(want, float), rtol=2e-10, atol=1e-12, err_msg=stage.title)
            compared.add(stage.title.split("-")[0])
        assert len(parts) in (0, len(results))
    assert len(compared) > 90
    assert {"scan", "while", "block_einsum"} <= compared


def test_names_and_values_are_escaped(show):
    bad = "</script><img src=x onerror=document.title=1>"

    def loss(p, x):
        return np.sum(p[bad] * x)

    loss.__name__ = bad
    tab = show(mg.explore(loss, {bad: np.ones(2)}, (np.ones((3, 2)),)))
    assert tab.title() != "1"
    assert tab.locator("img").count() == 0
    assert tab.locator("h1").inner_text() == bad


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 800}}])
def test_dark_and_narrow_pages_show_all_controls(show, browser, seeded, options):
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.set_content(seeded.html)
    for name in ("step forward", "step back", "fit", "SVG", "PNG"):
        assert tab.get_by_role("button", name=name).is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_nan_and_infinity_are_marked(show):
    g = mg.trace(lambda x: np.sqrt(x))(np.ones(4))
    tab = show(g.explore(np.array([-1.0, np.inf, 4.0, 0.0])))
    tab.get_by_role("button", name="sqrt").click()
    tab.get_by_role("button", name="table").click()
    assert tab.locator("aside td").all_inner_texts() == ["nan", "inf", "2", "0"]


def test_infinite_and_missing_constants_are_evaluated(show):
    c = np.array([1.0, -np.inf, np.nan])

    def loss(w, x):
        return np.nanmax(np.where(x > 0, x * w, -np.inf) + c)

    tab = show(mg.explore(loss, np.ones(3), (np.array([[1.0, -2.0, 3.0], [-1.0, 2.0, 3.0]]),)))
    for k in range(len(tab.evaluate("minigradExplorer.stages.map(s => s.title)"))):
        same = tab.evaluate("""k => { const e = minigradExplorer, s = e.stages[k];
            const made = evaluate(s, s.nodes.map(n => n.input ? e.valueOf(s, n) : null), KERNELS);
            return made.every((a, i) => a.data.every((v, j) => Object.is(v, e.valueOf(s, s.nodes[i]).data[j])
                || Math.abs(v - e.valueOf(s, s.nodes[i]).data[j]) < 1e-12)); }""", k)
        assert same, k


def test_equal_values_are_told_from_related_ones(show):
    exploration = mg.explore(lambda w, x: np.sum(x * w) ** 2, np.ones(2), (np.array([[1.0, 2.0], [3.0, 4.0]]),))
    tab = show(exploration)
    tab.get_by_role("tab", name="batch").click()
    tab.locator(".node", has_text="square").click()
    text = tab.locator("aside").inner_text()
    same = text.lower().split("the same value in other stages")[1].split("play")[0]
    assert "simplify" in same
    assert "[6 14]" not in same


def test_loops_without_a_gradient_have_a_page(show):
    tab = show(mg.explore(lambda w, x: mg.while_loop(lambda s: np.abs(s) > 1, lambda s: s * w, x), 0.5,
                          (np.array([3.0, 5.0]),)))
    tab.get_by_role("tab", name="mean").click()
    assert "It has no gradient" in tab.locator("aside").inner_text()


def test_a_graph_without_operations_is_shown(show):
    show(mg.trace(lambda x: 3.0)(np.ones(2)).explore(np.ones(2)))


@pytest.mark.parametrize("loss", [lambda w, i: np.sum(i * i) * w, lambda w, i: np.sum((i & 3) * 1.0) * w])
def test_integers_of_the_machine_are_not_edited(show, loss):
    tab = show(mg.explore(loss, 1.0, (np.array([[20], [3]], np.uint8),)))
    assert tab.evaluate("JSON.parse(document.getElementById('data').textContent).play[0]") is False


def deep(p, x):
    """Return a loss of as many layers as `p` has entries, all from one line."""
    for w in p:
        x = np.tanh(x * w) + x
    return np.sum(x**2)


def test_a_graph_of_thousands_of_nodes_is_folded_and_steps_at_once(show):
    tab = show(mg.explore(deep, list(np.linspace(0.1, 0.3, 400)), (np.ones((4, 3)),)))
    tab.get_by_role("tab", name="gradient", exact=True).click()
    assert tab.locator(".node").count() < 150
    tab.keyboard.press("ArrowRight")
    assert "backward" not in tab.locator(".formula").inner_text()


def test_ragged_batches_show_rows_by_example_and_edges_in_three_forms(show):
    tab = show(mg.explore(graph_loss, np.ones(2), molecules()))
    tab.get_by_role("tab", name="batch").click()
    text = tab.locator("aside").inner_text()
    assert "nodes: 3 + 1 + 2 = 6" in text
    assert "edges: 4 + 0 + 5 = 9" in text
    for form in (f"3 × 3 × 3 float32: {4 * 27} bytes", f"6 × 6 float32, dense: {4 * 36} bytes",
                 f"2 × 9 int64: {8 * 18} bytes"):
        assert form in text
    tab.get_by_label("example", exact=True).select_option("2")
    tab.get_by_role("button", name="g['x'], input").click()
    tab.get_by_role("button", name="table").click()
    x = molecules()[2].x
    picked = [float(t) for t in tab.locator("td.picked input").evaluate_all("cells => cells.map(c => c.value)")]
    np.testing.assert_allclose(picked, x.ravel(), rtol=1e-5)
    assert "offsets 0 3 4 6" in tab.locator("aside").inner_text()


def test_gradients_of_the_examples_stand_beside_their_mean(show, seeded):
    tab = show(seeded)
    k = titles(seeded).index("each gradient")
    stage = seeded.stages[k]
    rows = dict(zip(stage.graph.nodes, numbers(tab, k), strict=True))[stage.graph.outputs[0]]
    np.testing.assert_allclose(rows, [by_hand(W, x)["gradient"] for x in X], rtol=1e-13, atol=1e-16)


def test_tangents_are_slopes_along_ones(show, seeded):
    tab = show(seeded)
    k = titles(seeded).index("tangent")
    stage = seeded.stages[k]
    shown = dict(zip(stage.graph.nodes, numbers(tab, k), strict=True))[stage.graph.outputs[1]]
    np.testing.assert_allclose(shown, np.sum(np.mean([by_hand(W, x)["gradient"] for x in X], axis=0)), rtol=1e-12)


def test_a_stage_lists_its_new_operations(show, seeded):
    tab = show(seeded)
    tab.get_by_role("tab", name="mean").click()
    text = tab.locator("aside").inner_text().lower()
    assert "new since batch: 1" in text
    assert "gone since" not in text
    tab.get_by_role("tab", name="simplify").click()
    assert "gone since gradient" in tab.locator("aside").inner_text().lower()


def test_loops_open_into_their_body_run_by_run(show):
    def rnn(w, x):
        h, _ = mg.scan(lambda h, u: (np.tanh(h * w + u), None), np.zeros(2), x)
        return np.sum(h)

    x = np.linspace(-1, 1, 8).reshape(4, 2)
    exploration = mg.explore(rnn, np.array([0.5, -0.5]), (np.stack([x, 2 * x]),))
    tab = show(exploration)
    tab.get_by_role("button", name="%2, scan").click()
    tab.get_by_role("button", name="open").click()
    h, k = np.zeros(2), len(exploration.stages)
    for t in range(4):
        tab.get_by_label("run", exact=True).fill(str(t))
        h = np.tanh(h * [0.5, -0.5] + x[t])
        np.testing.assert_allclose(numbers(tab, k)[-1], h, rtol=1e-14)
    tab.get_by_role("button", name="↑ back").click()
    assert tab.get_by_role("tab", name="one example").get_attribute("aria-selected") == "true"


def test_scopes_group_operations(show):
    def net(p, x):
        for k, w in enumerate(p):
            with mg.scope(f"layer {k}"):
                for _ in range(10):
                    x = np.tanh(x * w) + x
        return np.sum(x**2)

    tab = show(mg.explore(net, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], (np.ones((4, 3)),)))
    tab.get_by_role("tab", name="mean").click()
    words = tab.locator(".node.group").all_text_contents()
    assert sum("layer" in w for w in words) == 12  # shared operations (axes of a weight) apart from batched ones
    tab.locator(".node.group", has_text="layer 2").last.click()
    assert tab.locator(".node").count() > 20


def test_svg_export_holds_the_drawing(show, seeded):
    tab = show(seeded)
    drawing = tab.evaluate("minigradExplorer.drawing().text")
    assert drawing.startswith("<svg")
    assert drawing.count("<rect") >= 20
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="PNG").click()
    assert pathlib.Path(saved.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_frames_are_one_picture_per_step(show):
    exploration = mg.trace(lambda x: np.sum(np.sin(x) * x))(np.ones(3)).explore(np.arange(3.0))
    tab = show(exploration)
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="frames").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert archive.testzip() is None
        assert [name[-9:] for name in archive.namelist()] == ["-0001.png", "-0002.png", "-0003.png"]
        pictures = [archive.read(name) for name in archive.namelist()]
    assert all(p[:8] == b"\x89PNG\r\n\x1a\n" for p in pictures)
    assert len(set(pictures)) == 3
    assert len({p[16:24] for p in pictures}) == 1  # equal widths and heights, as an animation needs
    for picture in pictures:
        tab.keyboard.press("ArrowRight")
        with tab.expect_download() as saved:
            tab.get_by_role("button", name="PNG").click()
        assert pathlib.Path(saved.value.path()).read_bytes() == picture


def test_a_program_of_many_lines_is_folded_by_ranges_of_lines(show, tmp_path):
    path = tmp_path / "layers.py"
    lines = ["import numpy as np", "def loss(p, x):", *(f"    x = np.tanh(x * p[{k}]) + x" for k in range(250)),
             "    return np.sum(x**2)"]
    path.write_text("\n".join(lines))
    space = {"__name__": "layers"}
    exec(compile(path.read_text(), str(path), "exec"), space)
    tab = show(mg.explore(space["loss"], list(np.linspace(0.1, 0.3, 250)), (np.ones((4, 3)),)))
    tab.get_by_role("tab", name="gradient", exact=True).click()
    groups = tab.locator(".node.group").all_text_contents()
    assert len(groups) < 151
    assert any("layers.py:64–71" in text for text in groups)
    before = tab.locator(".node").count()
    tab.locator(".node.group", has_text="layers.py:64–71").first.click()
    assert before < tab.locator(".node").count() < before + 40
    assert any("layers.py:65" in text for text in tab.locator(".node").all_text_contents())
    tab.get_by_role("button", name="fold", exact=True).click()
    assert tab.locator(".node").count() == before


def test_a_line_of_many_operations_opens_in_parts(show):
    tab = show(mg.explore(deep, list(np.linspace(0.1, 0.3, 200)), (np.ones((4, 3)),)))
    tab.get_by_role("tab", name="batch", exact=True).click()
    tab.locator(".node.group.batched", has_text=re.compile(r"\d{3} operations")).click()
    assert tab.locator(".node.group", has_text="60 operations").count() >= 10
    before = tab.locator(".node").count()
    tab.locator(".node.group", has_text="part 3").click()
    assert tab.locator(".node").count() == before + 59


def one_line():
    one, other = lambda w, x: np.sum(w * x), lambda w, x: np.sum(w - x) ** 2
    return mg.explore(other, np.ones(2), (np.ones((3, 2)),)), mg.explore(one, np.ones(2), (np.ones((3, 2)),))


@pytest.mark.parametrize("make", [
    *(pytest.param(lambda k=k: one_line()[k], id=f"lambda {k} on a shared line") for k in (0, 1)),
    pytest.param(lambda: mg.explore(lambda w, x: np.sum(np.log(w * x)), -np.ones(3), (np.ones((4, 3)),)), id="all nan"),
    pytest.param(lambda: mg.explore(lambda w, x: np.sum(w * x), np.inf * np.ones(3), (np.zeros((4, 3)),)), id="inf"),
    pytest.param(lambda: mg.trace(lambda x: np.max(x) + np.sum(x, axis=0)[0])(mg.f32[10_000, 10_000]).explore(
        np.broadcast_to(np.float32(0.5), (10_000, 10_000))), id="10^8 elements"),
    pytest.param(lambda: mg.explore(lambda w, x: w * np.max(x), 1.0, (np.broadcast_to(np.float32(2), (20, 10**7)),)),
                 id="examples of 10^7 elements"),
    pytest.param(lambda: mg.trace(lambda x: ())(1.0).explore(2.0), id="no outputs"),
    pytest.param(lambda: mg.trace(lambda x: x)(1.0).explore(2.0), id="no operations"),
    pytest.param(lambda: mg.trace(lambda x: np.sum(x))(np.ones((0, 3))).explore(np.ones((0, 3))), id="no elements"),
    pytest.param(lambda: mg.explore(lambda w, x: np.sum(w * x), np.ones(0), (np.ones((4, 0)),)), id="empty examples"),
    pytest.param(lambda: mg.explore(lambda w, x: w * x, 2.0, (np.ones(1),)), id="one example"),
    pytest.param(lambda: mg.explore(lambda w, x: np.sum(w * x), np.ones(40_000), (np.ones((3, 40_000)),)),
                 id="many elements")])
def test_odd_programs_are_shown_in_all_stages(show, make):
    exploration = make()
    assert len(exploration.html) < 1_500_000
    tab = show(exploration)
    for k in range(len(exploration.stages)):
        tab.evaluate("k => { minigradExplorer.state.stage = k; minigradExplorer.draw(); }", k)
        for node in range(len(exploration.stages[k].graph.nodes)):
            tab.evaluate("([k, i]) => minigradExplorer.select(minigradExplorer.stages[k].nodes[i])", [k, node])
        text = tab.locator("aside").inner_text()
        assert "inf to -inf" not in text
        assert "undefined" not in text
    if tab.evaluate("minigradExplorer.examples.choosable"):
        tab.evaluate("() => { minigradExplorer.examples.choose([0]); minigradExplorer.draw(); }")


@pytest.mark.parametrize("x", [-0.0123456789, -1.23456e-112, 1234567.25, -98765432.1, 7.0, -np.inf, np.nan])
def test_numbers_lie_within_their_boxes(show, x):
    page = mg.explore(lambda w, x: np.exp(x) * w - x, -0.123456789, np.full(3, x))
    boxes = show(page).evaluate("""() => [...document.querySelectorAll("g[data-node]")].map((g) => {
        const text = g.querySelector("text.value"), end = text && text.getBBox().x + text.getBBox().width;
        return text && [text.textContent, end, g.querySelector("rect.box").getBBox().width]; }).filter(Boolean)""")
    assert boxes
    assert [text for text, end, width in boxes if end > width] == []
    whole = {-0.0123456789: "-0.01235", 1234567.25: "1234600", 7.0: "7", -np.inf: "-inf"}
    assert whole.get(x, "-0.12346") in [text for text, _, _ in boxes]
