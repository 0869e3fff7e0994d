"""Tests of the NumPy face."""
