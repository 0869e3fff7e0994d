"""`tree_scan` against the recursive loop: values, gradients, per-example gradients and Hessian-vector products."""

import numpy as np
import pytest

import minigrad as mg

node = mg.axis("node")


@mg.example
class Tree:
    x: mg.f64[node, 3]
    parent: mg.index(node, null=-1)[node]
    scale: mg.f64[()]


def tree(rng, n, kind="random"):
    match kind:
        case "random":
            parent = [-1, *(int(rng.integers(0, i)) for i in range(1, n))][:n]
        case "chain":
            parent = list(range(1, n)) + [-1] * min(n, 1)
        case "star":
            parent = [n - 1] * (n - 1) + [-1] * min(n, 1)
        case "forest":
            parent = [-1 if i % 3 == 0 else i - 1 for i in range(n)]
    order = rng.permutation(n)
    place = np.argsort(order)
    parent = [-1 if parent[i] < 0 else int(place[parent[i]]) for i in order]
    return Tree(rng.normal(size=(n, 3)), parent, rng.normal())


SIZES = [(0, 4, 1, 6, 0), (1, 5, 0), (3,), (0, 0)]
W = {k: np.random.default_rng(i).normal(size=(3, 3)) * 0.5 for i, k in enumerate("iouf")}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(w, x, h, c):
    """Return the state of a node of a child-sum tree-LSTM (Tai, Socher and Manning 2015)."""
    total = np.sum(h, axis=0)
    gate = sigmoid(x @ w["i"] + total)
    out = sigmoid(x @ w["o"] + total)
    update = np.tanh(x @ w["u"] + total)
    forget = sigmoid(x @ w["f"] + h)  # one per child
    c = gate * update + np.sum(forget * c, axis=0)
    return out * np.tanh(c), c


def loss(w, t):
    h, c = mg.tree_scan(lambda x, kids: cell(w, x * t.scale, *kids), t.parent, t.x, (mg.f64[3], mg.f64[3]))
    return np.sum(h ** 2) + np.sum(c)


def recursive(w, t):
    def state(i):
        kids = [state(j) for j in np.flatnonzero(np.asarray(t.parent) == i)]
        h, c = (np.stack([k[i] for k in kids]) if kids else np.zeros((0, 3)) for i in (0, 1))
        return cell(w, t.x[i] * t.scale, h, c)

    states = [state(i) for i in range(len(t.parent))]
    return sum((np.sum(h ** 2) + np.sum(c) for h, c in states), 0.0 * np.sum(w["i"]))


def compiled(f):
    return [f, mg.compile(f, backend="numpy"), mg.compile(f, backend="native")]


def close(have, want, tolerance=1e-10):
    for a, b in zip(np.atleast_1d(have) if not isinstance(have, dict) else have.values(),
                    np.atleast_1d(want) if not isinstance(want, dict) else want.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["random", "chain", "star", "forest"])
def test_values_and_gradients_equal_recursion(kind):
    t = tree(np.random.default_rng(1), 6, kind)
    parents = t.parent

    def by_recursion(w, x):
        return recursive(w, Tree(x, parents, t.scale))

    for run in compiled(mg.value_and_grad(loss)):
        value, slope = run(W, t)
        want, slopes = mg.value_and_grad(by_recursion)(W, t.x)
        close(value, want)
        close(slope, slopes)


@pytest.mark.parametrize(("kind", "sizes"), [("random", SIZES[0]), ("forest", SIZES[1]), ("random", SIZES[3])])
def test_batches_equal_the_loop_over_examples(kind, sizes):
    rng = np.random.default_rng(2)
    trees = [tree(rng, n, kind) for n in sizes]
    batch = mg.batch(trees)
    losses, slopes = [loss(W, t) for t in trees], [mg.grad(loss)(W, t) for t in trees]
    v = {k: np.cos(w) for k, w in W.items()}
    whole = mg.mean_loss(loss, in_axes=(None, 0))
    products = [mg.hvp(lambda w, t=t: loss(w, t), (W,), (v,)) for t in trees]
    for run in compiled(mg.vmap(loss, in_axes=(None, 0))):
        close(run(W, batch), losses)
    for run in compiled(mg.vmap(mg.grad(loss), in_axes=(None, 0))):
        close(run(W, batch), {k: np.array([s[k] for s in slopes]) for k in W})
    for run in compiled(mg.grad(whole)):
        close(run(W, batch), {k: np.mean([s[k] for s in slopes], axis=0) for k in W})
    for run in compiled(lambda b: mg.hvp(lambda w: whole(w, b), (W,), (v,))):
        close(run(batch), {k: np.mean([p[k] for p in products], axis=0) for k in W})
    for run in (micro := mg.grad(mg.microbatch(whole, 2)), mg.compile(micro)):
        close(run(W, batch), {k: np.mean([s[k] for s in slopes], axis=0) for k in W})


def test_derivatives_of_rows_and_of_values_per_example():
    rng = np.random.default_rng(3)
    trees = [tree(rng, n) for n in (3, 0, 5, 1)]
    batch = mg.batch(trees)
    each = [mg.grad(lambda x, t=t: loss(W, Tree(x, t.parent, t.scale)))(t.x) for t in trees]
    rows = mg.vmap(lambda t: mg.grad(lambda x: loss(W, Tree(x, t.parent, t.scale)))(t.x))
    for run in compiled(rows):
        close(run(batch).values, np.concatenate(each))
    scales = mg.vmap(lambda t: mg.grad(lambda s: loss(W, Tree(t.x, t.parent, s)))(t.scale))
    want = [mg.grad(lambda s, t=t: loss(W, Tree(t.x, t.parent, s)))(t.scale) for t in trees]
    for run in compiled(scales):
        close(run(batch), want)
    mg.check_grads(lambda w, x: loss(w, Tree(x, trees[2].parent, 0.7)), (W, trees[2].x))


def test_dense_batches_of_trees():
    rng = np.random.default_rng(4)
    trees = [tree(rng, 5) for _ in range(3)]
    x, parent = np.stack([t.x for t in trees]), np.stack([t.parent for t in trees])

    def f(w, x, parent):
        return loss(w, Tree(x, parent, 1.0))

    want = [mg.grad(f)(W, *pair) for pair in zip(x, parent, strict=True)]
    for run in compiled(mg.vmap(mg.grad(f), in_axes=(None, 0, 0))):
        close(run(W, x, parent), {k: np.array([s[k] for s in want]) for k in W})
    same = [mg.grad(f)(W, row, parent[0]) for row in x]
    for run in compiled(mg.grad(mg.mean_loss(f, in_axes=(None, 0, None)))):
        close(run(W, x, parent[0]), {k: np.mean([s[k] for s in same], axis=0) for k in W})


def test_children_come_in_the_order_of_their_rows():
    def word(x, children):  # the digits of the children, then the node's own
        place = np.arange(children.shape[0]) if isinstance(children, np.ndarray) else mg.numpy.arange(children.shape[0])
        return x + np.sum(children * 10.0 ** (place + 1))

    parent = np.array([3, -1, 1, 1, 3])
    np.testing.assert_allclose(mg.tree_scan(word, parent, np.array([1.0, 2, 3, 4, 5]), mg.f64[()]),
                               [1, 2 + 30 + 100 * 514, 3, 514, 5])


def test_one_program_serves_all_trees():
    run = mg.compile(mg.mean_loss(loss, in_axes=(None, 0)))
    for seed, sizes in enumerate(SIZES):
        trees = [tree(np.random.default_rng(seed), n) for n in sizes]
        close(run(W, mg.batch(trees)), np.mean([recursive(W, t) for t in trees]))
    assert len(run.entries) == 1
    assert run.workspace_bytes(W, mg.batch(trees)) >= 0
    assert "on each level" in run.source


@pytest.mark.parametrize("backend", [None, "numpy", "native"])
def test_cycles_are_refused(backend):
    f = mg.vmap(loss, in_axes=(None, 0))
    f = f if backend is None else mg.compile(f, backend=backend)
    good, bad = tree(np.random.default_rng(0), 3), Tree(np.ones((4, 3)), [-1, 3, 0, 1], 1.0)
    with pytest.raises(ValueError, match=r"example 1: node [13] is its own ancestor"):
        f(W, mg.batch([good, bad]))
    with pytest.raises(ValueError, match=r"test_trees.py:\d+.*example 0: node 0 is its own ancestor"):
        mg.tree_scan(lambda x, kids: x, np.array([0]), np.ones(1), 0.0)


def test_bad_arguments_are_refused():
    x, parent = np.ones(3), np.array([-1, 0, 0])

    def f(x, children):
        return x + np.sum(children)

    with pytest.raises(mg.ShapeError, match=r"test_trees.py:\d+: tree_scan\(f\): an array of type f64\[2\] in xs"):
        mg.tree_scan(f, parent, np.ones(2), 0.0)
    with pytest.raises(mg.DtypeError, match=r"one integer per node, got f64\[3\]"):
        mg.tree_scan(f, x, x, 0.0)
    with pytest.raises(mg.ShapeError, match=r"it returns f64\[\] where like has f64\[2\]"):
        mg.tree_scan(lambda x, c: x + np.sum(c), parent, x, mg.f64[2])
    with pytest.raises(mg.ShapeError, match="where like is"):
        mg.tree_scan(lambda x, c: (x, x), parent, x, 0.0)
    with pytest.raises(IndexError, match=r"the parent of node 2 is 5, which is not a node"):
        mg.tree_scan(f, np.array([-1, 0, 5]), x, 0.0)
    with pytest.raises(mg.Unsupported, match="the function of a node reads the rows of an axis"):
        mg.vmap(lambda t: np.sum(mg.tree_scan(lambda x, c: np.sum(x) + np.sum(t.x), t.parent, t.x, 0.0)))(
            mg.batch([tree(np.random.default_rng(0), 3)]))


def indexed(factor):
    """Return a function that looks a row up by the number of descendants, which nothing reads, and its trees."""
    def f(w, t):
        def count(x, kids):
            mg.numpy.take(np.zeros(4), np.sum(kids) * factor)
            return 1 + np.sum(kids)

        mg.tree_scan(count, t.parent, t.x, mg.i64[()])
        return w * np.sum(t.x) * t.scale

    return f


def plainly_counted(w, t):
    indexed(1)(w, t)
    return indexed(2)(w, t)  # the same operands, and other indices


@pytest.mark.parametrize("run", [lambda f: f, lambda f: mg.compile(f, backend="numpy"),
                                 lambda f: mg.compile(f, backend="native")], ids=["eager", "numpy", "native"])
@pytest.mark.parametrize("loss", [indexed(2), plainly_counted])
def test_indices_in_trees_are_checked_where_nothing_reads_them(loss, run):
    mean = mg.mean_loss(loss, in_axes=(None, 0))
    right, wrong = (mg.batch([Tree(np.ones((n, 3)), range(-1, n - 1), 1.0) for n in sizes])
                    for sizes in ((0, 2, 1), (0, 2, 3)))  # the root of a chain of three has two descendants
    for f in (mean, mg.grad(mean), mg.per_example_grad(loss, in_axes=(None, 0)), mg.grad(mg.microbatch(mean, 1)),
              mg.grad(mg.mean_loss(mg.checkpoint(loss), in_axes=(None, 0)))):
        np.testing.assert_allclose(np.mean(run(f)(1.0, right)), 3)
        with pytest.raises(IndexError, match="index 4"):
            run(f)(1.0, wrong)
