"""Tables of weights: units of equal weight share a row, and none is lost."""

import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.auditing.weight_table import cleaned, differing, multiples, table_rows, unknown

RNG = np.random.default_rng(0)
W, X, Y = RNG.normal(size=30), RNG.normal(size=(12, 30)), RNG.normal(size=12)


def loss(w, x, y):
    return (np.sum(np.tanh(x * w)) - y) ** 2


each = mg.compile(mg.per_example_grad(loss, in_axes=(None, 0, 0)))


def report_of(weights, X=X, **more):
    return mg.audit(lambda w, X, Y: np.asarray(weights) @ each(w, X, Y), loss, W, (X, Y), progress=False, **more)


def test_runs_of_equal_weight_share_a_row():
    report = report_of([0.1] * 10 + [0.0] * 2)
    assert table_rows(report) == [("0–9", "0.1", "1.2 ×"), ("10, 11", "0", "0 ×")]
    np.testing.assert_array_equal(cleaned(report)[10:], 0)
    np.testing.assert_allclose(multiples(report)[:10], 1.2)
    assert differing(report).all()


def test_weights_that_differ_are_told_from_those_that_do_not():
    weights = np.full(12, 1 / 12)
    weights[7] *= 1.001
    np.testing.assert_array_equal(np.flatnonzero(differing(report_of(weights))), [7])
    assert not differing(report_of(np.full(12, 1 / 12))).any()


def test_undetermined_weights_stand_in_rows_of_their_own():
    report = report_of(np.full(12, 0.1), X[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]])
    assert not unknown(report).any()  # the two labels differ
    copied = mg.audit(lambda w, x: np.full(3, 0.5) @ np.stack([x[0], x[1], x[1]]), lambda w, x: w @ x, W[:4],
                      (RNG.normal(size=(3, 4))[[0, 1, 1]],), progress=False)
    assert table_rows(copied) == [("0", "0.5", "1.5 ×"), ("1, 2", "0.5", "not determined")]
    np.testing.assert_array_equal(unknown(copied), [False, True, True])


def test_different_weights_of_one_multiple_share_a_row_with_their_range():
    wanted = np.arange(1, 13) / 78
    assert table_rows(report_of(2 * wanted, expected=wanted)) == [("0–11", "0.025641 – 0.307692", "2 ×")]


def test_weights_that_agree_up_to_their_uncertainty_share_a_row():
    report = report_of(np.full(12, 0.1))
    moved = dataclasses.replace(report, weights=report.weights + np.array([0, 1e-3] * 6), uncertainty=np.full(12, 4e-4))
    assert table_rows(moved) == [("0–11", "0.1", "1.2 ×")]
    assert len(table_rows(dataclasses.replace(moved, uncertainty=np.full(12, 1e-5)))) == 12


def test_an_expected_weight_of_zero_has_no_multiple():
    wanted = np.array([0.1] * 10 + [0.0] * 2)
    report = report_of(wanted, expected=wanted)
    assert report.right
    assert table_rows(report) == [("0–9", "0.1", "1 ×"), ("10, 11", "0", "")]


def test_long_tables_are_cut_in_the_middle_and_say_so():
    X, Y = RNG.normal(size=(60, 80)), RNG.normal(size=60)
    weights = np.linspace(1, 2, 60)
    report = mg.audit(lambda w, X, Y: weights @ each(w, X, Y), loss, RNG.normal(size=80), (X, Y), progress=False)
    rows = table_rows(report)
    assert len(rows) == 24
    assert rows[12] == ("… 37 further rows", "…", "…")
    assert rows[0][0] == "0"
    assert rows[-1][0] == "59"
    assert float(rows[-1][1]) == pytest.approx(weights[-1], rel=1e-5)
