"""Every function of the table, batched and compiled: one program for every batch size, equal to the loop."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.traced_array import TABLE

from .conform import assert_same_batch, call, run_traced, split, varied
from .test_table import CASES, DOMAIN, SHAPE_ONLY, UFUNCS, case_name, mnp, values

# Those of dtypes have no arrays for results; products by signature have tests of their own.
LEFT_OUT = {np.common_type, np.result_type, np.matmul, np.vecdot}
FUNCTIONS = sorted({*TABLE} - LEFT_OUT, key=case_name)


def cases(function):
    if function in UFUNCS:
        kind = "f8" if any("d" in t for t in function.types) else "i8"
        arrays = [values(kind, (2, 3), k) for k in range(function.nin)]
        return [call(*([DOMAIN[function]] if function in DOMAIN and function.nin == 1 else arrays))]
    return CASES.get(case_name(function), ())


@pytest.mark.parametrize("function", FUNCTIONS, ids=case_name)
def test_batched_and_compiled(function):
    name = case_name(function)
    traced = getattr(mnp, name) if name in SHAPE_ONLY else function
    for case in cases(function)[:3]:
        arrays, bind = split(case)
        if not arrays:
            continue
        bound = bind(traced)
        compiled = mg.compile(mg.vmap(bound))
        for b in (1, 3, 2):
            batch = [np.stack([varied(a, k) for k in range(b)]) for a in arrays]
            have = compiled(*batch)
            rows = [run_traced(bound, *(x[k] for x in batch)) for k in range(b)]
            for h, *ws in zip(have, *rows, strict=True):
                assert_same_batch(h, ws, f"{name}({case!r}), batch of {b}")
