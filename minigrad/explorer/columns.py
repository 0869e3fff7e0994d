"""The nodes of all stages as columns of small numbers: what several nodes say alike stands in a table once."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .record import Record

# Fields of a node that mostly occur together, by the name of their table.
TABLES = {"type": ("type", "shape", "axes", "dims", "dtype"), "call": ("op", "call", "params"),
          "place": ("rules", "line", "scope"), "marks": ("role", "input", "literal", "spread", "wide")}
NUMBERS = ("key", "value", "cotangent", "of", "copy")


class Tables:
    """The tables of a page, filled by `columns`."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {name: [] for name in TABLES}
        self._index: dict[str, dict[str, int]] = {name: {} for name in TABLES}

    def add(self, name: str, node: Record) -> int:
        """Return the index of a node's fields in a table."""
        entry = {field: node[field] for field in TABLES[name] if field in node}
        text = json.dumps(entry)
        if text not in self._index[name]:
            self._index[name][text] = len(self.records[name])
            self.records[name].append(entry)
        return self._index[name][text]

    def columns(self, nodes: Sequence[Record]) -> Record:
        """Return the columns of the nodes of one stage; `assets/data.js` makes nodes of them."""
        columns: Record = {name: [self.add(name, node) for node in nodes] for name in TABLES}
        for name in NUMBERS:
            if any(name in node for node in nodes):
                columns[name] = [node.get(name, -1) for node in nodes]
        columns["name"] = [_number(node["name"]) for node in nodes]
        columns["inputs"] = [[k - i for i in node["inputs"]] for k, node in enumerate(nodes)]
        held = {str(k): node["held"] for k, node in enumerate(nodes) if "held" in node}
        return columns | ({"held": held} if held else {})


def _number(name: str) -> int | str:
    """Return 3 for the name %3, and other names as they are."""
    return int(name[1:]) if name[:1] == "%" and name[1:].isdecimal() and name == f"%{int(name[1:])}" else name
