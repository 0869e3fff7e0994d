"""``python -m minigrad.numpy``: the page about every function, in Markdown."""

from .functions_page import page

print(page(), end="")
