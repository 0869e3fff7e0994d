"""Losses of one example of ragged size, one for each kind of construct: `test_features` meets every tool with each."""

import numpy as np

import minigrad as mg
import minigrad.numpy as mnp

word, letter = mg.axis("word"), mg.axis("letter")
WIDTH = 3


@mg.example
class Text:
    x: mg.f64[word, WIDTH]
    keep: mg.bool_[word]
    parent: mg.index(word, null=-1)[word]  # the root, word 0, has none
    other: mg.f64[letter]
    y: mg.f64[()]


def text(rng, words, letters):
    parent = np.array([rng.integers(k) if k else -1 for k in range(words)], np.int64)
    return Text(rng.normal(size=(words, WIDTH)), rng.random(words) < 0.6, parent, rng.normal(size=letters),
                rng.normal())


def texts(sizes=((4, 2), (1, 0), (7, 5), (3, 1), (2, 3))):
    rng = np.random.default_rng(0)
    return [text(rng, *n) for n in sizes]


params = np.array([0.5, -0.8, 1.1])
examples = mg.batch(texts())


def selection(w, s):
    kept = mg.select(s.keep)
    return (np.sum(np.tanh(s.x[kept] * w)) / (1 + kept.shape[0]) - s.y) ** 2


def positions(w, s):
    (kept,) = np.nonzero(s.keep)
    return (np.sum(np.sin(s.x[kept] @ w)) + np.sum(np.tanh(s.x[~s.keep] * w)) - s.y) ** 2


def pairs(w, s):
    i, j = np.where(np.abs(s.x[:, :1] - s.x[:, 0]) < 0.8)
    return np.sum(np.exp(-np.square((s.x[i] - s.x[j]) @ w)))


def tree(w, s):
    h = mg.tree_scan(lambda x, children: np.tanh(x * w + np.sum(children, axis=0)), s.parent, s.x, mg.f64[WIDTH])
    return (h[0] @ w - s.y) ** 2


def packed_scan(w, s):
    h, states = mg.scan(lambda h, x: ((h := np.tanh(h * w + x)), h * x), np.zeros(WIDTH), s.x)
    return (np.sum(h) + np.sum(states) - s.y) ** 2


def nested_scans(w, s):
    """The soft edit distance of the first column and the other row."""
    def line(above, a):
        def cell(here, near):
            diagonal, up, b = near
            costs = np.stack([diagonal + w[0] ** 2 * (a - b) ** 2, up + np.exp(w[1]), here + np.exp(w[2])])
            here = -mg.special.logsumexp(-costs)
            return here, here

        first = above[:1] + np.exp(w[1])
        _, others = mg.scan(cell, first[0], (above[:-1], above[1:], s.other))
        return np.concatenate([first, others]), None

    return mg.scan(line, np.exp(w[2]) * mnp.arange(s.other.shape[0] + 1), s.x[:, 0])[0][-1]


def matrices(w, s):
    gram = (s.x * w) @ (s.x * w).T + mnp.eye(s.x.shape[0])
    return s.x[:, 0] @ np.linalg.solve(gram, s.x[:, 0]) + np.linalg.slogdet(gram)[1]


def sorting(w, s):
    order = np.argsort(s.x[:, 0])
    return (np.sum(np.cumsum(s.x[order] @ w)) + np.median(s.x @ w) - s.y) ** 2


def steps(w, s):
    """A loop over the words whose number of steps differs, and a branch."""
    total = mg.fori_loop(0, s.x.shape[0], lambda i, h: np.tanh(h + mnp.take(s.x, i, axis=0) @ w), 0.1)
    return mg.cond(s.y > 0, lambda t: (t - s.y) ** 2, lambda t: np.abs(t) + s.y**2, total)


def attention(w, s):
    weights = mg.special.softmax((s.x * w) @ s.x.T, axis=1)
    return (np.sum(np.tanh(weights @ s.x)) - s.y) ** 2


def dropout(w, s):
    kept = mg.random.bernoulli(mg.random.key(3), 0.7, (s.x.shape[0], 1))
    return (np.sum(np.where(kept, s.x * w, 0.0)) - s.y) ** 2


def static(w, s, activation="tanh", squared=True):
    h = np.sum(np.tanh(s.x @ w) if activation == "tanh" else s.x @ w)
    return (h - s.y) ** 2 if squared else h


def printed(w, s):
    h = np.sum(np.tanh(s.x @ w))
    mg.print("h {:.3f}", h)
    return (h - s.y) ** 2


FEATURES = {f.__name__: f for f in (selection, positions, pairs, tree, packed_scan, nested_scans, matrices, sorting,
                                    steps, attention, dropout, static, printed)}
MORE = {static: ("sine", False)}  # arguments after the example
static_examples = examples, "sine", False


def arguments(f):
    """Return the arguments of a loss for all examples, and the axes of the examples."""
    more = MORE.get(f, ())
    return (params, examples, *more), (None, 0, *(None for _ in more))
