"""The directive ``public`` documents the names listed in it; the role ``name`` links to them."""

import inspect
import types

import numpy as np
from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.application import Sphinx
from sphinx.ext.autosummary import AutoLink
from sphinx.util.docutils import SphinxDirective

import minigrad


def resolve(name: str) -> object:
    """Return the object that a name below the package `minigrad` stands for."""
    value: object = minigrad
    for part in name.split("."):
        value = getattr(value, part)
    return value


def methods(cls: type) -> tuple[list[str], list[str]]:
    """Return the public methods and properties of a class: its own, and those with NumPy's docstrings."""
    own, numpys = [], []
    for name, member in vars(cls).items():
        if name.startswith("_") or not (inspect.isroutine(member) or isinstance(member, property)):
            continue
        theirs = [getattr(space, name).__doc__ for space in (np.ndarray, np) if hasattr(space, name)]
        if member.__doc__ and member.__doc__ not in theirs:
            own.append(name)
        elif theirs:
            numpys.append(name)
    return own, numpys


def entry(name: str) -> list[str]:
    """Return the lines of reStructuredText that document a name from its docstring."""
    value = resolve(name)
    if isinstance(value, type):
        kind = "exception" if issubclass(value, BaseException) else "class"
        own, numpys = methods(value)
        members = [f"   :members: {', '.join(own)}"] if own else []
        relay = f"Attributes and methods as of ``numpy.ndarray``: {', '.join(f'``{n}``' for n in numpys)}."
        return [f".. auto{kind}:: minigrad.{name}", *members, "", *([f"   {relay}", ""] if numpys else [])]
    if isinstance(value, types.ModuleType):
        return [f".. automodule:: minigrad.{name}", "   :no-index:", ""]
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return [f".. autofunction:: minigrad.{name}", ""]
    summary, _, _ = (inspect.getdoc(value) or inspect.getdoc(type(value)) or "").partition("\n\n")
    return [f".. py:data:: {name.rpartition('.')[2]}", "", *(f"   {line}" for line in summary.splitlines()), ""]


class Name(AutoLink):
    """The role of a name in single backticks: a link where it is public, code elsewhere."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the link or the code."""
        found, messages = super().run()
        return [nodes.literal("", n.astext()) if isinstance(n, nodes.emphasis) else n for n in found], messages


class Public(SphinxDirective):
    """Document public names: a table of first lines with links, then each docstring."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the table and the entries."""
        names = [line.strip() for line in self.content if line.strip()]
        lines = [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]
        for name in names:
            lines += [f".. py:currentmodule:: {f'minigrad.{name}'.rpartition('.')[0]}", "", *entry(name)]
        text = "\n".join([".. py:currentmodule:: minigrad", "", *lines])
        result = self.parse_text_to_nodes(f"````{{eval-rst}}\n{text}\n````")
        for signature in (s for node in result for s in node.findall(desc_signature)):
            # The listing of a module's source may link back under the package's name alone.
            name = signature.get("fullname", "")
            if signature["ids"] and not hasattr(minigrad, name.partition(".")[0]):
                signature["ids"].append(f"minigrad.{name}")
        return result


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_role("name", Name())
    app.add_directive("public", Public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
