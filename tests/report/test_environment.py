"""The environment of a report names versions and the machine."""

import os
import platform

import numpy as np

import minigrad as mg
from minigrad.report.environment import environment


def test_environment():
    words = environment()
    assert words["minigrad"] == mg.__version__
    assert words["Python"] == platform.python_version()
    assert words["NumPy"] == np.__version__
    assert 1 <= int(words["CPUs"]) <= (os.cpu_count() or 1)
    assert all(isinstance(v, str) and v for v in words.values())
