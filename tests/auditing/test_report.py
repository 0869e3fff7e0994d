"""The report of an audit: its checks, text and JSON."""

import json

import numpy as np
import pytest

from minigrad.errors import CheckError, MinigradError

from .steps import PARTS, N, mean, run, weighted

OF_PARTS = np.concatenate([np.full(len(m), 1 / (3 * len(m))) for m in PARTS])


def test_check():
    report = run(mean)
    assert report.check() is report
    assert report.check("mean", tolerance=1e-9) is report
    with pytest.raises(CheckError, match="expected the sum: The step returns the mean"):
        report.check("sum")
    with pytest.raises(MinigradError, match="no 'median'; there are mean, sum"):
        report.check("median")
    with pytest.raises(MinigradError, match="weights are expected"):
        report.check(np.ones(3))
    near = np.full(N, 1 / N)
    near[3] *= 1.001
    with pytest.raises(CheckError):
        report.check(near)
    report.check(near, tolerance=0.01)


def test_check_of_a_wrong_step_names_the_fault():
    report = run(weighted(OF_PARTS))
    with pytest.raises(CheckError, match="3 micro-batches of 5, 5, 2 examples"):
        report.check()
    report.check(OF_PARTS)
    assert not report.right
    assert run(weighted(OF_PARTS), expected=OF_PARTS).right


def test_text():
    text = str(run(weighted(OF_PARTS)))
    assert text.startswith("The step returns the mean of the means of 3 micro-batches")
    assert "0.0666667" in text
    assert "0.8 ×  0–9" in text
    assert "2 ×  10, 11" in text
    assert "12 of 12 gradients are independent" in text


def test_json():
    out = json.loads(run(weighted(OF_PARTS)).to_json())
    np.testing.assert_allclose(out["weights"], OF_PARTS)
    assert out["right"] is False
    assert out["readings"][0]["microbatches"] == [m.tolist() for m in PARTS]
    assert out["mixing"] is None


