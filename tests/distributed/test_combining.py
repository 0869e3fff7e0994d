"""Results of sections, joined one after the other."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.distributed.combining import Combining
from minigrad.distributed.divide import Dividing
from minigrad.ops.cuts import along

from .losses import FUNCTIONS, IN_AXES


def in_sections(name, number):
    """Return the division of a function, its operands, and the sections of the batch."""
    f, args = FUNCTIONS[name]
    divided, leaves, sizes = Dividing(f, IN_AXES[name], "distribute")(args, {})
    operands = divided.operands(leaves, sizes)
    return divided, operands, divided.spans(operands, number)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("number", [1, 3])
def test_sections_together_are_the_whole(name, number):
    divided, operands, spans = in_sections(name, number)
    combining = divided.combining(spans)
    for span in spans:
        combining.take(divided.here.run(divided.sections(operands, span), divided.examples(span).start), span)
    for got, want in zip(combining.results(), divided.here.run(operands, 0), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_float16_sums_are_added_in_float32_and_rounded_once():
    (total,) = mg.trace(lambda x: x)(mg.f16[()]).outputs
    span = ({}, {})
    combining = Combining([total], [None], [span] * 3)
    for term in (2048, 1, 1):  # in float16, 2048 + 1 is 2048
        combining.take([np.array(term, np.float16)], span)
    (got,) = combining.results()
    assert got.dtype == np.float16
    assert got == 2050


def test_an_index_of_a_section_along_an_axis():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(x[along(1, slice(1, 3))], x[:, 1:3])


@pytest.mark.parametrize("name", ["value and gradient", "norms", "ragged results"])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_results_share_no_memory_with_those_of_the_parts(name, parts):
    divided, operands, spans = in_sections(name, parts)
    combining = divided.combining(spans)
    results = []
    for span in spans:
        results.append(divided.here.run(divided.sections(operands, span), divided.examples(span).start))
        for values in results[-1]:
            values.flags.writeable = False  # as those of a message may be
        combining.take(results[-1], span)
    before = [[v.copy() for v in values] for values in results]
    for total in combining.results():
        assert not any(np.shares_memory(total, v) for values in results for v in values)
        total[...] = 0
    for values, kept in zip(results, before, strict=True):
        for a, b in zip(values, kept, strict=True):
            np.testing.assert_array_equal(a, b)
