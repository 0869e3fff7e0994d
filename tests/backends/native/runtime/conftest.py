"""Fixtures of the tests of the thread pool."""

import pytest

from minigrad.backends.native.runtime import threads

from .pool_code import Code


@pytest.fixture(scope="module")
def code():
    return Code()


@pytest.fixture(autouse=True)
def as_before():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)
