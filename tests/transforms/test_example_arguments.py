"""Arguments for several examples: parts of them, and one example alone."""

import numpy as np

import minigrad as mg
from minigrad.ragged.batch import is_batch
from minigrad.transforms.example_arguments import ExampleArguments

word = mg.axis("word")
BATCH = mg.batch([np.array([1.0, 2.0]), np.array([3.0]), np.array([])], mg.f64[word])
COLUMNS = np.arange(6.0).reshape(2, 3)  # one per example
ARGUMENTS = ExampleArguments(({"shared": 7.0}, (BATCH, COLUMNS)), (None, (0, 1)), is_batch)


def test_size():
    assert ARGUMENTS.size == 3


def test_take():
    for rows, values, columns in ((slice(1), [1, 2], [[0], [3]]), ([2, 1], [3], [[2, 1], [5, 4]])):
        shared, (batch, array) = ARGUMENTS.take(rows)
        assert shared == {"shared": 7.0}
        assert batch.values.tolist() == values
        assert array.tolist() == columns


def test_example():
    shared, (array, column) = ARGUMENTS.take(1)
    assert shared == {"shared": 7.0}
    assert array.tolist() == [3]
    assert column.tolist() == [1, 4]


def test_negative_axis():
    arguments = ExampleArguments((BATCH, COLUMNS), (0, -1), is_batch)
    assert arguments.size == 3
    assert arguments.take([2, 1])[1].tolist() == [[2, 1], [5, 4]]
