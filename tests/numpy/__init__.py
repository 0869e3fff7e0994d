"""Tests of NumPy's functions on traced arrays."""
