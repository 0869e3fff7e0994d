"""Batches of batches: the schema of which a batch is an example.

A batch is made of arrays like any example: the fields, with the examples as one more ragged axis, and what says whose
each row is, which is an index into that axis. So a batch of batches is laid end to end by the same code.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .axes import Axis, FieldType
from .schema import Schema

_INT = np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class BatchSchema(Schema):
    """The schema of batches of `inner`."""

    inner: Schema | None = None
    maker: Any = None  # the class Batch

    @property
    def key(self) -> Any:
        return "batches", self.inner.key

    def make(self, values: Mapping[str, Any]) -> Any:
        axes = [a.name for a in self.inner.axes]
        fields = {n: values[n] for n, t in self.inner.fields.items() if not t.counts}
        return self.maker(self.inner, fields, tuple(values[f"lengths {a}"] for a in axes),
                          [values[f"segment_ids {a}"] for a in axes],
                          [values[f"blocks {a} {b}"] for a, b in _pairs(axes)])

    def values(self, example: Any) -> dict[str, Any]:
        axes = [a.name for a in self.inner.axes]
        parts = dict(example._fields)
        parts |= {f"lengths {a}": v for a, v in zip(axes, example._lengths, strict=True)}
        parts |= {f"segment_ids {a}": v for a, v in zip(axes, example._segments(), strict=True)}
        return parts | {f"blocks {a} {b}": v for (a, b), v in zip(_pairs(axes), example._witnesses(), strict=True)}

    def sizes(self, example: Any) -> tuple[int, ...]:
        """Return the sizes of this schema's axes in a batch."""
        found: dict[Axis, int] = {}
        for name, value in self.values(example).items():
            if value is not None:
                found |= dict.fromkeys(self.fields[name].axes, len(value))
        return tuple(found[a] for a in self.axes)


def _pairs(axes: list[str]) -> list[tuple[str, str]]:
    return list(itertools.combinations_with_replacement(axes, 2))


def batch_schema(inner: Schema, maker: Any) -> BatchSchema:
    """Return the schema of batches of examples of `inner`."""
    names = {a.name for a in inner.axes}
    example = Axis(next(n for k in itertools.count(1) if (n := "example" + str(k) * (k > 1)) not in names))
    fields: dict[str, FieldType] = {}
    for name, t in inner.fields.items():
        if t.counts:
            continue
        rows = () if t.shared else (_rows_axis(t, inner),) if t.axes else (example,)
        fields[name] = FieldType(t.dtype, (*rows, *t.dense), t.target, t.null, t.shared, blank=t.blank)
    for a in inner.axes:
        fields[f"lengths {a}"] = FieldType(_INT, (example,))
    for a in inner.axes:
        fields[f"segment_ids {a}"] = FieldType(_INT, (a,), example)
    for a, b in _pairs([a.name for a in inner.axes]):
        fields[f"blocks {a} {b}"] = FieldType(np.dtype(bool), (Axis(f"{a}_{b}"),), blank=True)
    return BatchSchema(f"batches of {inner.name}", fields, inner.optional, None, inner, maker)


def _rows_axis(t: FieldType, inner: Schema) -> Axis:
    """Return the axis that the packed rows of a field are on."""
    if len(t.axes) == 1:
        return t.axes[0]
    order = sorted(t.axes, key=inner.axes.index)
    return Axis("_".join(a.name for a in order))
