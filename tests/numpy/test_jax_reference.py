"""Values and derivatives of the whole table equal the stored ones of JAX; JAX itself is not needed."""

import json

import numpy as np
import pytest

import minigrad as mg

from .conform import run_traced, split
from .jax_reference import FILE, Row, cotangent, decode, generate, rows, same

STORED = json.loads(FILE.read_text())
ROWS: dict[str, list[Row]] = {}
for _row in rows():
    ROWS.setdefault(_row.name, []).append(_row)
AGAIN = "run `python -m tests.numpy.jax_reference` where JAX is installed"

# Where a derivative does not exist, libraries choose: the function -> where its arguments are such (one place for all
# of its derivatives, or one for each), and who chose what.
TIES = "both share the gradient, as in maximum; JAX gives it to the first"
ZERO = "the mean of both slopes, 0; JAX takes that of one side"
EXPONENT = "0 ** 0 has the slopes 0, and a base that is not positive the slope 0 in the exponent; JAX has nan"
CHOICES = {
    "absolute": (lambda x: x == 0, ZERO), "fabs": (lambda x: x == 0, ZERO), "copysign": (lambda x, y: x == 0, ZERO),
    "fmax": (lambda x, y: x == y, TIES), "fmin": (lambda x, y: x == y, TIES),
    **dict.fromkeys(("power", "float_power"), (lambda x, y: ((x == 0) & (y == 0), (x < 0) | ((x == 0) & (y <= 0))),
                                               EXPONENT)),
    "arccosh": (lambda x: x <= -1, "the value is nan, and so is the slope; JAX has a number"),
    "fmod": (lambda x, y: y == 0, "the value is nan, and so is every slope; JAX has 1 and inf"),
    "arctan2": (lambda x, y: (x == 0) & (y == 0), "the mean of all sides, 0; JAX has NaN"),
    "hypot": (lambda x, y: (x == 0) & (y == 0), "the mean of all sides, 0; JAX takes that of a diagonal"),
    "interp": (lambda x, *knots: np.isnan(x), "at nan, the knots have no part in it; JAX has nan"),
}


# NumPy reads one triangle of these matrices, so the gradient in the other is zero; JAX reads both and gives it to both.
SYMMETRIC = {"cholesky", "eigvalsh"}


def chosen(row):
    """Return for each derivative of a call where it is a choice; None if it is nowhere."""
    if row.name not in CHOICES:
        return None
    where = CHOICES[row.name][0](*row.case.args)
    where = where if isinstance(where, tuple) else [where] * len(row.case.args)
    return where if any(map(np.any, where)) else None


def equal(pairs, where=None):
    """Say whether all derivatives are those of JAX, of those that a choice has no part in."""
    if where is None:
        return all(same(h, w) for h, w in pairs)
    return all(same(h[~at], w[~at]) for (h, w), at in zip(pairs, where, strict=True) if h.shape == np.shape(at))


def derivatives(row, outputs):
    """Return the stored cotangents, pulled back through the traced function, for each array that they reach."""
    arrays, bind = split(row.case)
    bound = bind(row.traced)
    given = STORED["entries"][row.name][row.checksum]["vjp"]
    moving = [i for i, g in enumerate(given) if g is not None]

    def smooth(*floats):
        xs = list(arrays)
        for i, x in zip(moving, floats, strict=True):
            xs[i] = x
        return [o for o, w in zip(bound(*xs), outputs, strict=True) if w.dtype.kind == "f"]

    outs, pull = mg.vjp(smooth, *[arrays[i] for i in moving])
    pulled = pull([cotangent(o.shape) for o in outs])
    if row.name in SYMMETRIC:
        pulled = [(g + np.swapaxes(g, -1, -2)) / 2 for g in pulled]
    return [(g, decode(given[i])) for i, g in zip(moving, pulled, strict=True)]


@pytest.mark.parametrize("name", sorted(STORED["entries"]))
def test_values_and_derivatives_equal_stored_jax_results(name):
    if name not in ROWS:
        pytest.skip("this NumPy has no such function")
    for row in ROWS[name]:
        entry = STORED["entries"][name].get(row.checksum)
        if entry is None:
            continue  # left out, or changed: see the next test
        arrays, bind = split(row.case)
        have = run_traced(bind(row.traced), *arrays)
        for h, text in zip(have, entry["values"], strict=True):
            assert same(h, decode(text)), f"{name}({row.label}): {h}, and JAX's is {decode(text)}"
        if entry["vjp"] is not None:
            pairs = derivatives(row, have)
            assert equal(pairs, chosen(row)), f"the derivative of {name}({row.label}), and JAX's: {pairs}"


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_documented_choices_differ_from_jax_derivatives(name):
    rows = [row for row in ROWS[name] if STORED["entries"][name].get(row.checksum, {}).get("vjp") and
            chosen(row) is not None]
    outputs = [run_traced(split(row.case)[1](row.traced), *split(row.case)[0]) for row in rows]
    assert not all(equal(derivatives(row, out)) for row, out in zip(rows, outputs, strict=True)), "it is no choice"


def test_every_call_is_stored_or_left_out_for_a_reason():
    left_out = {c for names in STORED["left_out"].values() for cs in names.values() for c in cs}
    known = {c for calls in STORED["entries"].values() for c in calls} | left_out
    now = {row.checksum for calls in ROWS.values() for row in calls}
    new = [f"{row.name}({row.label})" for calls in ROWS.values() for row in calls if row.checksum not in known]
    assert not new, f"calls without a reference: {AGAIN}. They are {new}"
    gone = [f"{name}({e['call']})" for name, calls in STORED["entries"].items() if name in ROWS
            for c, e in calls.items() if c not in now]
    assert not gone, f"references of calls that are no more: {AGAIN}. They are {gone}"


def test_stored_file_equals_results_of_jax():
    pytest.importorskip("jax", reason="JAX is an extra")
    chosen = [row for name in sorted(ROWS)[::40] for row in ROWS[name][:2]]
    for name, calls in generate(chosen)["entries"].items():
        for checksum, entry in calls.items():
            stored = STORED["entries"][name][checksum]
            for have, want in zip(entry["values"] + (entry["vjp"] or []), stored["values"] + (stored["vjp"] or []),
                                  strict=True):
                assert (have is None) == (want is None)
                assert have is None or same(decode(have), decode(want)), f"{name}({entry['call']})"


def test_encoding_of_stored_results():
    from .jax_reference import encode

    for x in (np.array([[0.1, -0.0], [np.inf, np.nan]]), np.array(3), np.array([True, False]), np.zeros((0, 3))):
        np.testing.assert_array_equal(decode(encode(x)), x)
        assert decode(encode(x)).shape == x.shape
