"""The log entry of a pass, for people: the graph before, the graph after, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph


@dataclass(frozen=True)
class Stage:
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
