"""Philox 4x32-10 against the known answers of its authors' library Random123, and its bits by position."""

import numpy as np
import pytest

from minigrad import interpreters
from minigrad.errors import ShapeError
from minigrad.ops.random import philox, random_bits
from tests import checks

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(("counter", "key", "words"), [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1))])
def test_known_answers(counter, key, words):
    arrays = [[np.array([v], np.uint64) for v in values] for values in (counter, key)]
    assert [int(w[0]) for w in philox(np, *arrays)] == list(words)


def bits(key, shape, stream=0):
    (out,) = interpreters.evaluate(checks.program(random_bits, [key], {"shape": shape, "stream": stream}), [key])
    return out


def test_bits_are_the_words_of_consecutive_counters():
    words = philox(np, [np.array([0, 1], np.uint64), *[np.zeros(2, np.uint64)] * 3], [np.zeros(2, np.uint64)] * 2)
    key = np.zeros(2, np.uint32)
    np.testing.assert_array_equal(bits(key, (7,)), np.stack(words, axis=-1).ravel()[:7])
    assert not np.array_equal(bits(key, (7,)), bits(key, (7,), stream=1))


def test_each_key_of_a_batch_has_its_own_bits():
    keys = np.array([[1, 2], [3, 4]], np.uint32)
    np.testing.assert_array_equal(bits(keys, (3, 2)), [bits(k, (3, 2)) for k in keys])


def test_keys_are_two_unsigned_words():
    with pytest.raises(ShapeError, match="a key is uint32"):
        bits(np.zeros(2), (3,))
