"""The examples that a page holds: a batch of any of them, evaluated in a browser, has the library's values."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.explorer import held, seed
from tests.explorer.test_exploration import graph_loss, molecules
from tests.explorer.test_page import numbers, titles

node, edge = mg.axis("node"), mg.axis("edge")


def outputs(tab, exploration, title):
    """Return the results of a stage on the page."""
    k = titles(exploration).index(title)
    stage = exploration.stages[k]
    shown = dict(zip(stage.graph.nodes, numbers(tab, k), strict=True))
    return [shown[n] for n in stage.graph.outputs]


def choose(tab, wanted):
    """Choose examples by the buttons of the page."""
    if not tab.locator(".batchbox[open]").count():
        tab.locator(".batchbox summary").click()
    buttons = tab.locator(".toggles button")
    for b in sorted(range(buttons.count()), key=lambda b: b not in wanted):  # a batch is never empty
        if (buttons.nth(b).get_attribute("aria-pressed") == "true") != (b in wanted):
            buttons.nth(b).click()
    tab.locator(".batchbox summary").click()


def network(p, x, y):
    h = np.tanh(p["W"] @ x + p["b"])
    return (np.sum(h * p["v"]) - y) ** 2


def test_a_chosen_batch_has_the_library_s_values(show):
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(4, 3)), "b": rng.normal(size=4), "v": rng.normal(size=4)}
    X, Y = rng.normal(size=(7, 3)), rng.normal(size=7)
    exploration = mg.explore(network, params, (X, Y))
    tab = show(exploration)
    for some in ([1, 4, 5], [6], list(range(7)), [0, 6]):
        choose(tab, some)
        assert tab.locator(".batchbox summary").inner_text() == f"batch: {len(some)} of 7"
        x, y = X[some], Y[some]
        axes = (None, 0, 0)
        losses = mg.vmap(network, in_axes=axes)(params, x, y)
        value, gradient = mg.value_and_grad(mg.mean_loss(network, in_axes=axes))(params, x, y)
        each = mg.per_example_grad(network, in_axes=axes)(params, x, y)
        keys = sorted(params)
        wanted = {"batch": [losses], "mean": [value], "gradient": [value, *(gradient[k] for k in keys)],
                  "each gradient": [each[k] for k in keys]}
        last = titles(exploration)[-1]
        wanted[last] = wanted["gradient"]
        for title, arrays in wanted.items():
            for have, want in zip(outputs(tab, exploration, title), arrays, strict=True):
                np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-12, err_msg=f"{some} {title}")
        (one,) = outputs(tab, exploration, "one example")
        np.testing.assert_allclose(one, losses[0], rtol=1e-12)
        copies = outputs(tab, exploration, "copies")
        if len(some) >= 3:
            np.testing.assert_allclose(copies[0], losses[:3].mean(), rtol=1e-12)
        else:
            assert copies == [None]
    tab.get_by_role("tab", name="copies").click()
    assert "this stage spells out 3 examples, and the batch has 2" in tab.locator(".pane").inner_text()


@mg.example
class Tree:
    x: mg.f64[node, 2]
    near: mg.f64[node, node]
    up: mg.index(node, null=-1)[edge]
    down: mg.index(node)[edge]
    y: mg.f64[()]


def tree_loss(w, t):
    h = t.near @ np.tanh(t.x * w)
    return (np.sum(mg.segment_sum(h[t.down], t.down, h.shape[0]) * h) - t.y) ** 2


def trees(count):
    rng = np.random.default_rng(1)
    return [Tree(x=rng.normal(size=(n, 2)), near=rng.normal(size=(n, n)), up=rng.integers(-1, n, m),
                 down=rng.integers(0, n, m), y=rng.normal())
            for n, m in zip(rng.integers(1, 5, count), rng.integers(0, 6, count), strict=True)]


@pytest.mark.parametrize(("loss", "batch", "some"), [
    (graph_loss, molecules(), [0, 2]), (graph_loss, molecules(), [1]),
    (tree_loss, mg.batch(trees(20)), [2, 3, 17, 19])])
def test_a_chosen_ragged_batch_has_the_library_s_values(show, loss, batch, some):
    exploration = mg.explore(loss, np.array([0.5, -1.5]), batch)
    tab = show(exploration)
    choose(tab, some)
    part = mg.batch([batch[i] for i in some])
    k = titles(exploration).index("batch")
    graph = exploration.stages[k].graph
    leaves = [x for x in part.leaves().values() if x is not None]
    for node_, have in zip(graph.nodes, numbers(tab, k), strict=True):
        if node_ in graph.inputs[1:]:
            np.testing.assert_array_equal(have, leaves[graph.inputs.index(node_) - 1])
    losses = mg.vmap(loss, in_axes=(None, 0))(np.array([0.5, -1.5]), part)
    value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))(np.array([0.5, -1.5]), part)
    each = mg.per_example_grad(loss, in_axes=(None, 0))(np.array([0.5, -1.5]), part)
    for title, arrays in (("batch", [losses]), ("mean", [value]), ("gradient", [value, gradient]),
                          ("each gradient", [each]), (titles(exploration)[-1], [value, gradient])):
        for have, want in zip(outputs(tab, exploration, title), arrays, strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-12, err_msg=title)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_any_example_is_marked_in_all_stages(show, count):
    X = np.random.default_rng(0).normal(size=(count, 4))
    exploration = mg.explore(seed.s, seed.params, (X,))
    tab = show(exploration)
    for b in {0, count - 1, count * 2 // 3}:
        tab.get_by_label("example", exact=True).select_option(str(b))
        batch = tab.evaluate("minigradExplorer.examples.batch")
        assert b in batch
        want = mg.vmap(seed.s, in_axes=(None, 0))(seed.params, X[batch])
        np.testing.assert_allclose(outputs(tab, exploration, "batch")[0], want, rtol=1e-12)
        np.testing.assert_allclose(outputs(tab, exploration, "one example")[0], want[batch.index(b)], rtol=1e-12)
        for title in ("batch", "mean", "gradient"):
            tab.get_by_role("tab", name=title, exact=True).click()
            marked = tab.locator(".node rect.row").evaluate_all("all => all.filter(r => !r.style.display).length")
            assert marked > 3 or len(batch) == 1
        tab.get_by_role("tab", name="one example", exact=True).click()
        assert f"example {b} " in tab.locator(".pane .title").inner_text()
        tab.get_by_role("tab", name="copies", exact=True).click()
        picked = tab.locator(".node.picked").count()
        assert (picked > 5) == (batch.index(b) < 3)


def test_batches_are_chosen_by_the_keyboard(show):
    exploration = mg.explore(seed.s, seed.params, seed.examples)
    tab = show(exploration)
    tab.locator(".batchbox summary").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "batch size"
    tab.keyboard.press("Home")
    assert tab.evaluate("minigradExplorer.examples.batch") == [0]
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("minigradExplorer.examples.batch") == [0, 1]
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.evaluate("minigradExplorer.examples.batch") == [1]
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")
    assert tab.evaluate("minigradExplorer.examples.batch") == [1]
    assert tab.locator(".formula").inner_text() == "a batch has at least one example"


def rnn(p, xs, y):
    def read(h, x):
        h = np.tanh(h @ p["W"] + x * p["u"])
        return h, h[0]

    h, firsts = mg.scan(read, np.zeros(2), xs)
    return (np.sum(h) + np.sum(firsts**2) - y) ** 2


def test_batches_of_loops_have_the_library_s_values(show):
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(2, 2)), "u": rng.normal(size=2)}
    X, Y = rng.normal(size=(20, 4)), rng.normal(size=20)
    exploration = mg.explore(rnn, params, (X, Y))
    tab = show(exploration)
    axes = (None, 0, 0)
    for some in ([1, 17], [3], list(range(20))):
        choose(tab, some)
        value, gradient = mg.value_and_grad(mg.mean_loss(rnn, in_axes=axes))(params, X[some], Y[some])
        each = mg.per_example_grad(rnn, in_axes=axes)(params, X[some], Y[some])
        wanted = {"mean": [value], "each gradient": [each["W"], each["u"]],
                  **{title: [value, gradient["W"], gradient["u"]] for title in titles(exploration)[6:]}}
        for title, arrays in wanted.items():
            for have, want in zip(outputs(tab, exploration, title), arrays, strict=True):
                np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12, err_msg=f"{some} {title}")
    choose(tab, [2, 5])
    tab.get_by_role("tab", name="batch").click()
    tab.get_by_role("button", name="scan(").click()
    tab.get_by_role("button", name="open").first.click()
    body = tab.evaluate("minigradExplorer.state.stage")
    h = np.zeros((2, 2))
    for t in range(4):
        tab.get_by_label("run", exact=True).fill(str(t))
        h = np.tanh(h @ params["W"] + X[[2, 5], t, None] * params["u"])
        assert any(v is not None and v.shape == h.shape and np.allclose(v, h, rtol=1e-12) for v in numbers(tab, body))


def test_while_loops_follow_edits(show):
    def grow(w, x):
        return mg.while_loop(lambda s: s < 100, lambda s: s * w, x)

    exploration = mg.explore(grow, 2.0, (np.array([3.0, 5.0]),))
    tab = show(exploration)
    tab.get_by_role("button", name="w, input").click()
    field = tab.get_by_label("w", exact=True)
    field.fill("7")
    field.press("Enter")
    (result,) = outputs(tab, exploration, "one example")
    assert result == grow(7.0, 3.0) == 147


def huber(w, x, y):
    r = x * w[0] + w[1] - y
    return mg.cond(np.abs(r) < 1, lambda r: r**2 / 2, lambda r: w[0] * np.abs(r) - 0.5, r)


def test_batches_of_branches_have_the_library_s_values(show):
    w, X = np.array([1.5, 0.25]), np.linspace(-2, 2, 12)
    Y = X + np.linspace(0, 3, 12) ** 2 - 2
    exploration = mg.explore(huber, w, (X, Y))
    tab = show(exploration)
    axes = (None, 0, 0)
    for some in ([0, 5, 11], [4], [2, 3]):
        choose(tab, some)
        losses = mg.vmap(huber, in_axes=axes)(w, X[some], Y[some])
        value, gradient = mg.value_and_grad(mg.mean_loss(huber, in_axes=axes))(w, X[some], Y[some])
        for title, arrays in (("batch", [losses]), ("mean", [value]), ("gradient", [value, gradient]),
                              ("each gradient", [mg.per_example_grad(huber, in_axes=axes)(w, X[some], Y[some])])):
            for have, want in zip(outputs(tab, exploration, title), arrays, strict=True):
                np.testing.assert_allclose(have, want, rtol=1e-10, atol=1e-13, err_msg=f"{some} {title}")


def test_branches_of_a_batch_open_with_the_rows_that_took_them(show):
    exploration = mg.explore(lambda w, x: mg.cond(x > 0, lambda x: x * w, lambda x: -x, x), 3.0,
                             (np.array([1.0, -2.0, 4.0]),))
    tab = show(exploration)
    tab.get_by_role("tab", name="batch").click()
    tab.get_by_role("button", name="switch(").click()
    opened = []
    for k in range(2):
        tab.get_by_role("button", name="open").nth(k).click()
        opened.append([v.tolist() for v in numbers(tab, tab.evaluate("minigradExplorer.state.stage")) if v.ndim == 1])
        tab.get_by_role("button", name="↑ back").click()
        tab.get_by_role("button", name="switch(").click()
    assert [3.0, 12.0] in opened[0] + opened[1]
    assert [2.0] in opened[0] + opened[1]


def test_pages_say_why_their_batch_stays(show):
    def loss(w, x):
        return np.sum(np.linalg.inv(w * np.eye(2)) @ x)

    tab = show(mg.explore(loss, 2.0, (np.ones((30, 2)),)))
    tab.locator(".batchbox summary").click()
    assert "The batch cannot be changed: the page has no function for inv." in tab.locator(".batchbox").inner_text()
    assert tab.get_by_label("example", exact=True).locator("option").count() == 17


def test_edits_stay_with_their_example(show):
    exploration = mg.explore(seed.s, seed.params, seed.examples)
    tab = show(exploration)
    tab.get_by_role("tab", name="mean").click()
    choose(tab, [1, 4])
    tab.get_by_role("button", name="x, input").click()
    tab.get_by_role("button", name="table").click()
    tab.get_by_label("x [5]", exact=True).fill("9")  # row 1 of the batch: example 4
    tab.get_by_label("x [5]", exact=True).press("Enter")
    X = seed.examples[0].copy()
    X[4, 1] = 9
    for some in ([1, 4], [2, 4], [0, 1], list(range(6))):
        choose(tab, some)
        want = mg.vmap(seed.s, in_axes=(None, 0))(seed.params, X[some])
        np.testing.assert_allclose(outputs(tab, exploration, "batch")[0], want, rtol=1e-12)


def test_indices_stay_within_their_example(show):
    exploration = mg.explore(graph_loss, np.ones(2), molecules())
    tab = show(exploration)
    tab.get_by_role("tab", name="mean").click()
    choose(tab, [1, 2])
    tab.get_by_role("button", name="g['src'], input").click()
    tab.get_by_role("button", name="table").click()
    field = tab.get_by_label("g['src'] [0]", exact=True)
    field.fill("0")
    field.press("Enter")
    assert tab.locator(".formula").inner_text() == "the indices of example 2 are its rows: 1 to 2, not 0"


def test_pages_hold_as_many_examples_as_there_is_room_for():
    assert held.fitting(5, 8, 5) == 5
    assert held.fitting(5000, 8, 16) == held.HELD
    assert held.fitting(5000, held.ROOM / 20, 16) == 20
    assert held.fitting(5000, 1e9, 16) == 16


def test_a_page_of_the_digits_network_is_small():
    rng = np.random.default_rng(0)

    def loss(p, x, k):
        z = np.maximum(x @ p["W1"] + p["b1"], 0) @ p["W2"] + p["b2"]
        return np.log(np.sum(np.exp(z))) - z[k]

    params = {"W1": rng.normal(size=(64, 128)), "b1": np.zeros(128), "W2": rng.normal(size=(128, 10)),
              "b2": np.zeros(10)}
    page = mg.explore(loss, params, (rng.integers(0, 17, (1797, 64)) / 16, rng.integers(0, 10, 1797)))
    assert len(page.html) < 3_000_000
    assert '"total":1797' in page.html
