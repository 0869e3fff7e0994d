"""Budgets of memory: their text, and the most examples that fit."""

import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad.budgets import Budget, bytes_of, bytes_text, longest


@pytest.mark.parametrize(("text", "nbytes"), [
    ("500 MB", 500_000_000), ("500MB", 500_000_000), ("2 GiB", 2**31), ("1.5 kB", 1500), ("64 kib", 65536),
    (" 7 B ", 7), (".5 TB", 5 * 10**11), (12345, 12345)])
def test_text_of_a_budget_counts_bytes(text, nbytes):
    assert bytes_of(text, "f") == nbytes


@pytest.mark.parametrize("bad", ["5 apples", "MB", "", "500", "-5 MB", "0 MB", "1e3 MB", 0, -1, True, 1.5, None, [5]])
def test_other_budgets_are_refused(bad):
    with pytest.raises(mg.BatchError, match=r"test_budgets\.py:\d+: f: memory must be a positive number of bytes"):
        bytes_of(bad, "f")


@pytest.mark.parametrize(("nbytes", "text"), [
    (500_000_000, "500 MB"), (1, "1 B"), (999, "999 B"), (1500, "1.5 KB"), (2**31, "2.15 GB"), (10**16, "10^16")])
def test_bytes_for_readers(nbytes, text):
    assert bytes_text(nbytes) == text.replace("10^16", f"{10**16:,} B")


def test_copies_of_a_budget():
    budget = Budget(1000)
    one, other = pickle.loads(pickle.dumps((budget, budget)))
    assert one is other
    assert one.nbytes == 1000
    assert str(budget) == "1 KB"


def test_longest_is_the_largest_number_below_the_limit():
    rng = np.random.default_rng(0)
    for _ in range(300):
        base, each, limit, most, guess = rng.integers([0, 1, 1, 1, 1], [300, 50, 5000, 400, 500]).tolist()
        power = int(rng.integers(1, 3))
        costs = [base + each * n**power for n in range(most + 1)]
        seen = []
        want = max((n for n in range(1, most + 1) if costs[n] <= limit), default=0)
        assert longest(lambda n, costs=costs, seen=seen: seen.append(n) or costs[n], limit, most, guess) == want
        assert len(seen) == len(set(seen))
        assert all(1 <= n <= most for n in seen)


def test_longest_of_costs_in_proportion_takes_few_trials():
    seen = []

    def cost(n):
        seen.append(n)
        return 5_000_000 + 40_000 * n

    assert longest(cost, 500_000_000, 10**8) == 12375
    assert len(seen) <= 8
    seen.clear()
    assert 12000 <= longest(cost, 500_000_000, 10**8, guess=11000, slack=0.03) <= 12375
    assert len(seen) <= 2
