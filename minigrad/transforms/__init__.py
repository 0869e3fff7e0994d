"""Transforms of functions: rewrites of their graphs."""
