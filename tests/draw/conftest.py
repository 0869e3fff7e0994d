"""A fixture of the graphs to draw."""

import pytest

from tests.draw.graphs import GRAPHS


@pytest.fixture(params=GRAPHS, scope="module")
def graph(request):
    return GRAPHS[request.param]
