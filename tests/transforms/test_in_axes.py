"""Kinds of batches: a function of examples has one implementation for arrays, and others that plug in."""

from minigrad.transforms.in_axes import by_kind


class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


def test_a_kind_of_batch_plugs_into_a_function_of_examples():
    @by_kind
    def count(examples, factor):
        """Count."""
        return factor * sum(len(x) for x in examples)

    assert count.__doc__ == "Count."
    assert count([[1, 2], [3]], 10) == 30

    @count.register(lambda x: isinstance(x, Pair))
    def _pairs(examples, factor):
        return factor * len(examples)

    assert count([[1, 2], [3]], 10) == 30
    assert count([[1, 2], {"k": Pair(3, 4)}], 10) == 20
