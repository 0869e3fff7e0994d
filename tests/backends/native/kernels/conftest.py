"""Fixtures of the tests of native steps."""

import pytest


@pytest.fixture
def finely_cut(monkeypatch):
    """Cut everything into small pieces, and hand all of them to the pool."""
    from minigrad.backends.native.codegen import step_codegen
    from minigrad.backends.native.kernels import axis_kernels, copies, gather_scatter, philox

    monkeypatch.setattr(step_codegen, "SERIAL", 0)
    for module, name, value in ((copies, "PIECE", 40), (philox, "_PIECE", 2),
                                (gather_scatter, "_PIECE", 40), (gather_scatter, "_COLUMNS", 160),
                                (axis_kernels, "_PIECE", 40), (axis_kernels, "_COLUMNS", 40)):
        monkeypatch.setattr(module, name, value)
