"""Random schemas, random examples, random programs: the batch is the loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg

from .cases import close, unbatched
from .programs import draw_batch, draw_program, run


class Drawn:
    """Choices that Hypothesis makes, and makes smaller."""

    def __init__(self, data):
        self.data = data

    def integer(self, least, most):
        return self.data.draw(st.integers(least, most))

    def pick(self, options):
        return self.data.draw(st.sampled_from(options))


@given(st.data())
def test_unbatch_is_the_inverse(data):
    cls, examples = draw_batch(Drawn(data))
    for have, want in zip(mg.batch(examples), examples, strict=True):
        for name in cls.__schema__.fields:
            np.testing.assert_array_equal(getattr(have, name), getattr(want, name), strict=True)
    which = data.draw(st.lists(st.integers(0, len(examples) - 1)))
    for have, k in zip(mg.batch(examples)[which], which, strict=True):
        for name in cls.__schema__.fields:
            np.testing.assert_array_equal(getattr(have, name), getattr(examples[k], name), strict=True)


@given(st.data())
def test_the_batch_is_the_loop(data):
    cls, examples = draw_batch(Drawn(data))
    steps, _ = draw_program(Drawn(data), cls)
    batch = mg.batch(examples)

    def f(g):
        return run(steps, cls, g)

    want = [f(g) for g in examples]
    for go in (mg.vmap(f), mg.compile(mg.vmap(f))):
        for have, w in zip(unbatched(go(batch)), want, strict=True):
            close(have, w)


@given(st.data())
def test_ragged_gradients_equal_loop_over_examples(data):
    cls, examples = draw_batch(Drawn(data))
    steps, _ = draw_program(Drawn(data), cls)
    batch = mg.batch(examples)

    def loss(c, g):
        return np.sum(np.sin(run(steps, cls, g, c)))

    c = np.array(0.7)
    want = [mg.grad(loss)(c, g) for g in examples]
    close(mg.per_example_grad(loss, in_axes=(None, 0))(c, batch), want)
    close(mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0))))(c, batch), np.mean(want))
