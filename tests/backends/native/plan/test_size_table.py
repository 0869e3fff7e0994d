"""Formulas of sizes, evaluated together."""

import numpy as np

from minigrad.backends.native.plan.size_table import SizeTable
from minigrad.symbolic import Dim


def test_values_of_polynomials():
    n, m = Dim.new("n"), Dim.new("m")
    table = SizeTable()
    rows = [table.add(x) for x in (7, n, n * m + 3, n, 0)]
    table.end()
    values = table.values({n.symbol: 5, m.symbol: 4})
    assert values.dtype == np.int64
    assert values[rows].tolist() == [7, 5, 23, 5, 0]
    assert rows[1] == rows[3], "equal sizes share a formula"
    assert rows[4] == 0, "formula 0 is the constant 0"
