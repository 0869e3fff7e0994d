"""Losses and data of the tests, on arrays and on ragged batches."""

import numpy as np

import minigrad as mg

rng = np.random.default_rng(0)
W, X, Y = rng.normal(size=20), rng.normal(size=(53, 20)), rng.normal(size=53)
AXES = (None, 0, 0)


def loss(w, x, y):
    return (np.sum(np.tanh(x * w)) - y) ** 2


word = mg.axis("word")


@mg.example
class Sentence:
    x: mg.f64[word, 4]
    head: mg.index(word)[word]
    y: mg.f64[()]


LENGTHS = rng.integers(1, 9, 23)
SENTENCES = mg.batch([Sentence(x=rng.normal(size=(n, 4)), head=rng.integers(0, n, n), y=rng.normal()) for n in LENGTHS])
V = rng.normal(size=4)


def rows(v, s):
    return np.tanh(s.x @ v) + (s.x @ v)[s.head]


def of_sentence(v, s):
    return (np.sum(rows(v, s)) - s.y) ** 2


FUNCTIONS = {  # the function, its arguments
    "mean": (mg.mean_loss(loss, in_axes=AXES), (W, X, Y)),
    "value and gradient": (mg.value_and_grad(mg.mean_loss(loss, in_axes=AXES)), (W, X, Y)),
    "one per example": (mg.vmap(loss, in_axes=AXES), (W, X, Y)),
    "clipped mean": (mg.per_example.clipped_mean(loss, 0.5, in_axes=AXES), (W, X, Y)),
    "norms": (mg.per_example.norms(loss, in_axes=AXES), (W, X, Y)),
    "product with the Hessian": (lambda w, x, y: mg.hvp(
        lambda w: np.mean(mg.vmap(loss, in_axes=AXES)(w, x, y)), (w,), (w,)), (W, X, Y)),
    "ragged results": (mg.vmap(lambda v, s: s.x * v, in_axes=(None, 0)), (V, SENTENCES)),
    "ragged": (mg.value_and_grad(mg.mean_loss(of_sentence, in_axes=(None, 0))), (V, SENTENCES)),
    "mean over rows": (mg.value_and_grad(mg.mean_loss(rows, over=word, in_axes=(None, 0))), (V, SENTENCES))}
IN_AXES = {name: (None, *(0 for _ in args[1:])) for name, (_, args) in FUNCTIONS.items()}
