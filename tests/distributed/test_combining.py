"""Results of sections, combined: in memory of their own, whatever the executor keeps."""

import numpy as np
import pytest

from minigrad.distributed.divide import Dividing

from .losses import FUNCTIONS, IN_AXES


@pytest.mark.parametrize("name", ["value and gradient", "norms", "ragged results"])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_results_share_no_memory_with_those_of_the_parts(name, parts):
    f, args = FUNCTIONS[name]
    divided, leaves, sizes = Dividing(f, IN_AXES[name], "distribute")(args, {})
    operands = divided.operands(leaves, sizes)
    spans = divided.spans(operands, parts)
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
