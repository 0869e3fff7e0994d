"""What a pass did, for people: the graph before, the graph after, and a sentence."""

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
        A graph, or in words what a later stage makes of one.
    note : str
        What changed, in a sentence.
    """

    name: str
    before: Graph | str
    after: Graph | str
    note: str

    def __str__(self) -> str:
        return f"== {self.name}: {self.note}\n{self.after}"
