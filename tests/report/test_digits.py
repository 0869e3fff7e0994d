"""The digits model: its data, and the loss of one image against an independent formula."""

import numpy as np
import pytest

from minigrad.report import digits


def test_loss_is_the_negative_log_probability_of_the_label():
    params, image = digits.init(0), np.linspace(0, 1, 64, dtype=np.float32)
    z = digits.scores(params, image).astype(float)
    probabilities = np.exp(z) / np.exp(z).sum()
    for label in (0, 7):
        assert digits.loss(params, image, label) == pytest.approx(-np.log(probabilities[label]), rel=1e-5)


def test_parameters_follow_the_seed():
    first, again, other = digits.init(0), digits.init(0), digits.init(1)
    assert first["W1"].shape == (64, 256)
    assert all(v.dtype == np.float32 for v in first.values())
    np.testing.assert_array_equal(first["W2"], again["W2"])
    assert not np.array_equal(first["W2"], other["W2"])


def test_split_holds_each_image_once():
    pytest.importorskip("sklearn")
    data = digits.load(held_out=0.25)
    assert (len(data.train[0]), len(data.held_out[0])) == (1348, 449)
    images, labels = data.all
    assert images.shape == (1797, 64)
    assert images.min() == 0
    assert images.max() == 1
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
