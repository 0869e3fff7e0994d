"""The log of a compilation, for people: of each step the graph before, the graph after, and a sentence."""

from __future__ import annotations

from typing import NamedTuple

from ..graph import Graph
from ..locks import importing


class Stage(NamedTuple):
    """One step from a graph to a program.

    Attributes
    ----------
    name : str
    before, after : Graph or str
        The graph; later stages describe their plan in words.
    note : str
        The change, in a sentence.
    """

    name: str
    before: Graph | str
    after: Graph | str
    note: str

    def __str__(self) -> str:
        return f"== {self.name}: {self.note}\n{self.after}"

    def _repr_html_(self) -> str:
        with importing:
            from .. import draw

        return draw.stage_html(self.name, self.note, self.after)


class Stages(tuple[Stage, ...]):
    """The steps from a graph to a program; a notebook lists them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<ol>{''.join(f'<li>{stage._repr_html_()}</li>' for stage in self)}</ol>"
