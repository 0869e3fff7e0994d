"""Pages of the explorer in a headless Chromium."""

import pytest


@pytest.fixture
def show(browser, tmp_path):
    """Open an exploration; the test fails where the page prints to its console, or asks for anything outside."""
    opened, said = [], []

    def open_page(exploration, **options):
        context = browser.new_context(viewport={"width": 1300, "height": 850}, **options)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto("file://" + exploration.save(str(tmp_path / f"page{len(opened)}.html")))
        opened.append(context)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert said == []
