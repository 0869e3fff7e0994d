"""FUNCTIONS.md is up to date, and its rows agree with known functions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad.numpy
from minigrad.numpy.dispatch import REFUSED
from minigrad.numpy.functions_page import page, rows
from minigrad.traced_array import TABLE

PAGE = Path(minigrad.numpy.__file__).parent / "FUNCTIONS.md"


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="the page is that of a later NumPy, which has more functions")
def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m minigrad.numpy > minigrad/numpy/FUNCTIONS.md"


def test_command_prints_the_page():
    out = subprocess.run([sys.executable, "-m", "minigrad.numpy"], capture_output=True, text=True, check=True).stdout
    assert out == page()


def test_every_function_has_a_row():
    names = [name for name, _ in rows()]
    assert len(names) == len(set(names))
    for function in TABLE:
        assert any(n.split(".")[-1] == function.__name__ for n in names), function
    text = page()
    assert all(f"| `{name}` |" in text for name in REFUSED)
    assert "linalg.svd" in text


def test_rows_of_known_functions():
    found = dict(rows())
    for name, want in {"np.sin": "yes | yes | yes | yes | yes | sin", "np.argmax": "0 | 0 | 0 | yes | yes |",
                       "np.sum": "yes | yes | 0 | yes | yes | sum", "np.floor": "0 | 0 | 0 | yes | yes | floor",
                       "np.cumprod": "yes | yes | yes |",
                       "scipy.special.erf": "yes | yes | yes | yes | yes | erf"}.items():
        assert want in found[name]
    assert not any("no:" in row for row in found.values())
