"""Packed scans without Python in their steps."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.native.packed_scan import NativePackedScan

word = mg.axis("word")
SIZES = [(3, 0, 5, 1), (2, 2), (0, 0, 0), (1, 7, 0)]


@mg.example
class Words:
    x: mg.f64[word, 2]
    at: mg.i64[word]


def words(sizes, last=3):
    rng = np.random.default_rng(0)
    return [Words(rng.normal(size=(n, 2)), rng.integers(0, last + 1, n)) for n in sizes]


def loss(w, s):
    def step(h, row):
        x, at = row
        return np.tanh(w[:2] @ h + x) * mg.numpy.take(w[:, 0], at, axis=0), None

    return mg.scan(step, np.ones(2), (s.x, s.at))[0].sum()


W = np.random.default_rng(1).normal(size=(4, 2))


def compiled():
    return mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))), backend="native")


def scans(step):
    (entry,) = step.entries.values() if isinstance(step.entries, dict) else step.entries
    return [held for held in entry.program.held.values() if isinstance(held, NativePackedScan)]


def close(have, examples):
    rows = [mg.value_and_grad(loss)(W, e) for e in examples]
    np.testing.assert_allclose(have[0], np.mean([v for v, _ in rows]))
    np.testing.assert_allclose(have[1], np.mean([g for _, g in rows], axis=0))


def test_steps_need_no_python(monkeypatch):
    step = compiled()
    close(step(W, mg.batch(words(SIZES[0]))), words(SIZES[0]))
    held = scans(step)
    assert held
    assert all(scan.native_program is not None for scan in held)
    for scan in held:
        monkeypatch.setattr(scan, "_program", lambda *args: pytest.fail("Python runs a step"), raising=True)


def test_threads_have_bodies_of_their_own():
    step, batches = compiled(), [mg.batch(words(sizes)) for sizes in SIZES] * 8
    step(W, batches[0])
    with ThreadPoolExecutor(4) as pool:
        for have, sizes in zip(pool.map(lambda b: step(W, b), batches), SIZES * 8, strict=True):
            close(have, words(sizes))


def test_an_index_out_of_range_names_its_line():
    step = compiled()
    good, bad = words(SIZES[0]), words(SIZES[0], last=3)
    bad[2].at[4] = 9
    step(W, mg.batch(good))
    with pytest.raises(IndexError, match=r"test_packed_scan\.py:\d+: .*index 9 is out of range .* in example 2"):
        step(W, mg.batch(bad))
    close(step(W, mg.batch(good)), good)
