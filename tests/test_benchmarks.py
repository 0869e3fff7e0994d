"""The page of results says what the measured files say."""

from benchmarks import page


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text() == page.page(), "run python -m benchmarks.page"
