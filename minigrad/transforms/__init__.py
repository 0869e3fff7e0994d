"""Transforms of functions, each of which is a rewrite of their graph."""
