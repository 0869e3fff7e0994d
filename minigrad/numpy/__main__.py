"""``python -m minigrad.numpy``: the page about every function, in Markdown."""

from .table import page

print(page(), end="")
