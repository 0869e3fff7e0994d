"""A hunt for wrong numbers: random programs under random transforms, each compared with an independent answer.

``python -m tests.hunt --minutes N --seed S`` runs it; `tests/test_hunt.py` runs a slice of it in every test run.

- `choices`: random choices that a seed repeats.
- `catalogue`: the calls of NumPy's functions that a program may make, found by asking the package's own table.
- `programs`: dense programs, with loops and branches of any number of turns; drawing them, and running them as plain
  NumPy, under minigrad, or under JAX.
- `wide`: steps on arrays of many elements, which machine code computes by ways of its own.
- `ragged`: programs over examples of different size, empty ones included, of one batch or two.
- `oracles`: the comparisons: the loop, both CPU backends, finite differences, forward and reverse mode, microbatches,
  JSON, pickles, JAX where it is installed.
- `machine`: comparisons of machine code with itself on other threads and memory, and with the NumPy program.
- `shrink`: removal of the steps that a failure does not need.
"""
