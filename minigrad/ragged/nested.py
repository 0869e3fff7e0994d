"""Batches of batches: the schema of a batch as an example.

A batch consists of arrays, as any example does: its fields, with the examples as one more ragged axis, and segment ids,
which are indices into that axis. So one implementation packs examples and batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .axes import Axis, FieldType
from .schema import Schema

if TYPE_CHECKING:
    from .batch import Batch


@dataclass(frozen=True, eq=False)
class BatchSchema(Schema):
    """The schema of batches of `inner`; `maker` is the class `Batch`."""

    inner: Schema = field(kw_only=True)
    maker: type[Batch] = field(kw_only=True)

    @property
    def key(self) -> object:
        return "batches", self.inner.key

    def make(self, values: Mapping[str, Any]) -> Batch:
        return self.maker.of_leaves(self.inner, values)

    def values(self, example: Batch) -> dict[str, Any]:
        return example.leaves()

    def sizes(self, example: Batch) -> tuple[int, ...]:
        """Return the sizes of this schema's axes in a batch."""
        sizes: dict[Axis, int] = {}
        for name, value in self.values(example).items():
            if value is not None:
                sizes |= dict.fromkeys(self.fields[name].axes, len(value))
        return tuple(sizes[a] for a in self.axes)


def batch_schema(inner: Schema, maker: type[Batch]) -> BatchSchema:
    """Return the schema of batches of examples of `inner`."""
    names = {a.name for a in inner.axes}
    example = Axis(next(n for k in itertools.count(1) if (n := "example" + str(k) * (k > 1)) not in names))
    fields: dict[str, FieldType] = {}
    for name, t in inner.leaf_types.items():
        rows = _packed_axis(inner.row_axes(t), names) if t.axes else example
        fields[name] = replace(t, shape=t.dense if t.shared else (rows, *t.dense))
    for a in inner.axes:
        ids = inner.leaf_name("segment_ids", a)
        fields[ids] = replace(fields[ids], target=example)
    return BatchSchema(f"batches of {inner.name}", fields, inner.optional, inner=inner, maker=maker)


def _packed_axis(axes: tuple[Axis, ...], names: set[str]) -> Axis:
    """Return the axis of packed rows: of one axis that axis, of a block an axis whose name is not among `names`."""
    if len(axes) == 1:
        return axes[0]
    name = "_".join(a.name for a in axes)
    while name in names:
        name += "_"
    return Axis(name)
