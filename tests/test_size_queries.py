"""Code that needs the number behind a ragged size: the error names a way, and the way works."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

node = mg.axis("node")
POS = np.arange(10.0)


@mg.example
class Chain:
    x: mg.f64[node]


EXAMPLES = [Chain(np.array(x)) for x in ([0.0, 1.0, 2.0], [3.0], [], [1.0, -1.0])]

KEY, RNG = mg.random.key(0), np.random.default_rng(0)


def size(g):
    return g.x.shape[0]


CASES = {  # name: what is wrong, what the error says, what it proposes, and the same on one plain example
    "ones": (lambda g: np.ones(size(g)) * g.x,
        r"`np\.ones\(size\(g\)\)` needs .*minigrad\.numpy\.ones\(n\).*np\.ones_like\(x\)",
             lambda g: mnp.ones(size(g)) * g.x + np.ones_like(g.x), lambda x: x + 1),
    "zeros": (lambda g: np.zeros((size(g), 2)), r"minigrad\.numpy\.zeros\(n\).*np\.zeros_like\(x\)",
              lambda g: mnp.zeros((size(g), 2)).sum(-1) + g.x, lambda x: x),
    "full": (lambda g: np.full(size(g), 2.0), r"minigrad\.numpy\.full\(n, v\)",
             lambda g: mnp.full(size(g), 2.0) * g.x, lambda x: 2 * x),
    "eye": (lambda g: np.eye(size(g)) @ g.x, r"minigrad\.numpy\.eye\(n\)", lambda g: mnp.eye(size(g)) @ g.x,
        lambda x: x),
    "eye above": (lambda g: np.eye(size(g), k=1) @ g.x, r"minigrad\.numpy\.eye\(n\)",
                  lambda g: mnp.eye(size(g), k=1) @ g.x, lambda x: np.eye(len(x), k=1) @ x),
    "identity": (lambda g: np.identity(size(g)), r"minigrad\.numpy\.identity\(n\)",
                 lambda g: mnp.identity(size(g)) @ g.x, lambda x: x),
    "arange": (lambda g: np.arange(size(g)) * g.x, r"minigrad\.numpy\.arange\(n\)",
               lambda g: mnp.arange(size(g)) * g.x, lambda x: np.arange(len(x)) * x),
    "tril": (lambda g: np.tril(np.ones((size(g), size(g)))) @ g.x, r"`np\.ones.*minigrad\.numpy\.ones\(n\)",
             lambda g: np.tril(mnp.ones((size(g), size(g)))) @ g.x, np.cumsum),
    "triu": (lambda g: np.triu(np.ones((size(g), size(g))), 1) @ g.x, r"minigrad\.numpy\.ones\(n\)",
             lambda g: np.triu(mnp.ones((size(g), size(g))), 1) @ g.x,
             lambda x: np.triu(np.ones((len(x), len(x))), 1) @ x),
    "tri": (lambda g: np.tri(size(g)) @ g.x, r"minigrad\.numpy\.tri\(n\)", lambda g: mnp.tri(size(g)) @ g.x, np.cumsum),
    "first rows": (lambda g: POS[:size(g)] * g.x,
        r"`POS\[:size\(g\)\]`.*minigrad\.numpy\.take\(rows, minigrad\.numpy\.arange",
                   lambda g: mnp.take(POS, mnp.arange(size(g)), axis=0) * g.x, lambda x: POS[:len(x)] * x),
    "repeat": (lambda g: np.repeat(2.0, size(g)) * g.x, r"Arrays of such a size are those of minigrad\.numpy: .*full",
               lambda g: mnp.full(size(g), 2.0) * g.x, lambda x: 2 * x),
    "len": (lambda g: g.x * len(g.x), r"`len\(g\.x\)`.*x\.shape\[0\]", lambda g: g.x * g.x.shape[0],
        lambda x: x * len(x)),
    "float": (lambda g: g.x * float(size(g)), r"`float\(size\(g\)\)`.*x \* n", lambda g: g.x * size(g),
        lambda x: x * len(x)),
    "max": (lambda g: g.x / max(size(g), 1), r"np\.maximum\(n, 1\)", lambda g: g.x / np.maximum(size(g), 1),
            lambda x: x / max(len(x), 1)),
    "if": (lambda g: g.x if size(g) > 1 else 2 * g.x, r"`size\(g\) > 1`.*np\.where\(np\.greater\(n, 1\), a, b\)",
           lambda g: np.where(np.greater(size(g), 1), g.x, 2 * g.x), lambda x: x if len(x) > 1 else 2 * x),
    "range": (lambda g: sum(g.x for _ in range(size(g))), r"`range\(size\(g\)\)`.*mg\.fori_loop.*along the axis",
              lambda g: g.x * np.sum(g.x, axis=0), lambda x: x * x.sum()),
    "range of a loop": (lambda g: g.x * sum(g.x[i] for i in range(size(g))), r"mg\.fori_loop\(0, n, step, state\)",
                        lambda g: g.x * mg.fori_loop(0, size(g), lambda i, total: total + g.x[i], 0.0),
                        lambda x: x * x.sum()),
    "rows": (lambda g: g.x * sum(row for row in g.x), r"mg\.scan\(step, state, x\)",
             lambda g: g.x * mg.scan(lambda total, row: (total + row, None), 0.0, g.x)[0], lambda x: x * x.sum()),
    "random": (lambda g: g.x * RNG.normal(size=size(g)), r"mg\.random\.normal\(key, \(n,\)\)",
               lambda g: g.x * mg.random.normal(KEY, (size(g),)), lambda x: x * mg.random.normal(KEY, x.shape))}


@pytest.mark.parametrize("name", CASES)
def test_each_way_out_works(name):
    wrong, said, right, plain = CASES[name]
    with pytest.raises(mg.ShapeError, match=rf"^test_size_queries\.py:\d+: .*{said}"):
        mg.vmap(wrong)(mg.batch(EXAMPLES))
    want = [plain(g.x) for g in EXAMPLES]
    for f in (mg.vmap(right), mg.compile(mg.vmap(right)), mg.compile(mg.vmap(right), backend="numpy")):
        for h, w in zip(f(mg.batch(EXAMPLES)).unbatch(), want, strict=True):
            np.testing.assert_allclose(h, w)


@pytest.mark.parametrize("f", [lambda x: np.quantile(x, 0.3), lambda x: np.median(x, axis=0).sum()])
def test_quantiles_of_a_microbatch_are_computed_without_it(f):
    loss, X = mg.batch_loss(f), RNG.normal(size=(4, 2))
    with pytest.raises(mg.ShapeError, match=r"needs the number .*leave out the microbatch"):
        mg.microbatch(loss, 2)(X)
    compiled = mg.compile(loss, backend="numpy")
    for n in (4, 3):
        np.testing.assert_allclose(compiled(X[:n]), f(X[:n]))
