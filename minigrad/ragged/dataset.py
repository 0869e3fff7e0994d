"""Datasets: objects with a length that answer an array of indices with a batch.

A `Batch` of all examples is one: packed, so that a smaller batch is a gather and not a loop over examples. Others are
the same arrays in files, larger than the memory; arrays whose axis 0 counts the examples; and data frames.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..tracebacks import boundary
from .axes import Axis, FieldType, as_field
from .batch import Batch, batch, shift_indices
from .schema import Schema, schema_of

FORMAT = 1
ABOUT = "dataset.json"  # written last: where it is missing, the writing was interrupted
_MANY = 2.0**62  # rows that no dataset has
_PART = 1 << 20  # elements that are checked at a time


class Arrays:
    """A pytree of arrays as a dataset: axis 0 counts the examples."""

    def __init__(self, tree: Any):
        leaves, self._structure = optree.tree_flatten(tree)
        self._leaves = [np.asarray(x) for x in leaves]
        lengths = {x.shape[0] if x.ndim else None for x in self._leaves}
        if len(lengths) != 1 or None in lengths:
            shapes = ", ".join(str(x.shape) for x in self._leaves) or "there is no array"
            raise BatchError(at_user_line("a dataset of arrays: axis 0 counts the examples, so it is there in each and "
                                          f"of one length; the shapes are {shapes}"))
        self._length = lengths.pop()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: np.ndarray) -> Any:
        """Return those examples, in new arrays."""
        return optree.tree_unflatten(self._structure, [x.take(indices, axis=0) for x in self._leaves])


class Table:
    """A data frame or series as a dataset: its rows are the examples, by position and not by label."""

    def __init__(self, frame: Any):
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, indices: np.ndarray) -> Any:
        """Return those rows, as a frame (or series)."""
        return self._frame.iloc[indices]


def as_dataset(data: Any) -> Any:
    """Return `data` with a length, and answering an array of indices with a batch."""
    if isinstance(data, (tuple, list)) and len(data) and schema_of(type(data[0])) is not None:
        return batch(data)
    if isinstance(data, list):
        raise BatchError(at_user_line("a dataset that is a list is one of examples, of a class made by @mg.example. A "
                                      "list of arrays does not say what they are: give fields as a tuple or a dict, "
                                      "examples of one shape as np.stack(list), of several as mg.batch(list, type)"))
    if schema_of(type(data)) is not None and not isinstance(data, Batch):
        raise BatchError(at_user_line(f"a dataset is many examples, and this is one {type(data).__name__}: give a "
                                      "list"))
    if hasattr(type(data), "iloc"):  # whose brackets name columns
        return Table(data)
    if isinstance(data, Mapping) and not isinstance(data, dict):  # an archive of arrays, say: its brackets take keys
        return Arrays(dict(data))
    if isinstance(data, (tuple, dict, np.ndarray)) or not hasattr(type(data), "__getitem__"):
        return Arrays(data)
    return data


def sizes_of(dataset: Any) -> Mapping[Any, np.ndarray]:
    """Return the number of rows that every example has on each ragged axis."""
    lengths = getattr(dataset, "lengths", None)
    return lengths if isinstance(lengths, Mapping) else {}


# -- in files ------------------------------------------------------------------------------------------------


@boundary
def save_dataset(path: str | Path, examples: Iterable[Any], kind: Any = None, chunk: int = 1024) -> Path:
    """Write examples into a folder, one ``.npy`` file per field, as they come: they need not fit into memory.

    Parameters
    ----------
    path : str or Path
        A folder that is not there yet, or is empty.
    examples : iterable
        As for `minigrad.batch`; or a `Batch`.
    kind : array type, optional
        The type of examples that are arrays.
    chunk : int
        How many examples are packed at a time.

    Returns
    -------
    Path
        The folder, for `open_dataset`.

    Raises
    ------
    BatchError
        If the folder holds something, there is no example, or an example is not as `minigrad.batch` wants it.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BatchError(at_user_line(f"save_dataset: {folder} is there already; give a new folder, or empty it"))
    if chunk < 1:
        raise BatchError(at_user_line(f"save_dataset: chunk={chunk}, and should be at least 1"))
    parts = _parts(examples, kind, chunk)
    first = next(parts, None)
    if first is None:
        raise BatchError(at_user_line("save_dataset: there is no example"))
    folder.mkdir(parents=True, exist_ok=True)
    schema = first.schema
    growing = {name: Growing(folder / f"{name}.npy", first._fields[name]) for name in _per_example(first)}
    lengths = {axis: Growing(folder / f"lengths {axis}.npy", first.lengths[axis]) for axis in schema.axes}
    shared = {name: first._fields[name] for name, t in schema.fields.items() if t.shared}
    try:
        before = dict.fromkeys(schema.axes, 0)
        for part in itertools.chain([first], parts):
            _append(part, first, growing, before)
            for axis, counts in part.lengths.items():
                lengths[axis].append(counts)
                before[axis] += int(counts.sum())
    finally:
        for file in (*growing.values(), *lengths.values()):
            file.close()
    for name, value in shared.items():
        if value is not None:
            np.save(folder / f"{name}.npy", value)
    about = {"format": FORMAT, "schema": schema.name, "fields": {n: str(t) for n, t in schema.fields.items()},
             "absent": [n for n in schema.optional if first._fields[n] is None],
             "examples": sum(file.rows for file in itertools.islice((*lengths.values(), *growing.values()), 1))}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


@boundary
def open_dataset(path: str | Path, kind: Any) -> Batch:
    """Return the batch of all examples in a folder; its arrays stay in their files, and are read where they are used.

    Parameters
    ----------
    path : str or Path
        What `save_dataset` wrote.
    kind : schema or array type
        The class of the examples, or their type if they are arrays.

    Returns
    -------
    Batch
        Its packed arrays cannot be written to. ``dataset[indices]`` reads those examples into memory. A pickle of it
        holds the path alone: another process opens the files again.

    Raises
    ------
    BatchError
        If the folder is no dataset, was written with another schema, or a file in it holds anything else than
        `save_dataset` wrote: the error names the file. The indices and bools are read once for that.
    """
    folder = Path(path)
    schema = schema_of(kind) or Schema("arrays", {"value": as_field(kind, "open_dataset")}).check()
    about = _about(folder, schema)
    examples = about["examples"]
    lengths = tuple(_lengths(folder / f"lengths {axis}.npy", examples) for axis in schema.axes)
    data = Batch(schema, {}, lengths, size=examples)
    for name, t in schema.fields.items():
        if not t.counts:
            data._fields[name] = None if name in about["absent"] else _checked(folder / f"{name}.npy", t, data)
    data._opened = open_dataset, folder.absolute(), kind
    return data


# -- reading, with no trust in the files ---------------------------------------------------------------------


def _wrong(path: Path, why: str) -> BatchError:
    return BatchError(at_user_line(f"open_dataset: {path}: {why}"))


def _about(folder: Path, schema: Schema) -> dict[str, Any]:
    """Return the description of the dataset in `folder`, which must be one of examples of `schema`."""
    path = folder / ABOUT
    if not path.is_file():
        raise BatchError(at_user_line(f"open_dataset: {folder} has no {ABOUT}: it is no dataset, or its writing was "
                                      "interrupted"))
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(path, f"not JSON: {error}") from None
    if not isinstance(about, dict):
        raise _wrong(path, f"expected an object, got a {type(about).__name__}")
    if about.get("format") != FORMAT or isinstance(about["format"], bool):
        raise BatchError(at_user_line(f"open_dataset: {folder} is of format {about.get('format')!r}; this version "
                                      f"reads format {FORMAT}"))
    for key, kind in (("schema", str), ("fields", dict), ("absent", list), ("examples", int)):
        if type(about.get(key)) is not kind:
            raise _wrong(path, f"{key}: expected a value of type {kind.__name__}, got {about.get(key)!r}")
    have, want = about["fields"], {n: str(t) for n, t in schema.fields.items()}
    if have != want:
        differing = [n for n in {**have, **want} if have.get(n) != want.get(n)]
        raise BatchError(at_user_line(
            f"open_dataset: {folder} holds {about['schema']}s with other fields than {schema.name} has: " + "; ".join(
                f"{n} is {have.get(n, 'missing')} there and {want.get(n, 'missing')} here" for n in differing)))
    if strange := [n for n in about["absent"] if not isinstance(n, str) or n not in schema.optional]:
        raise _wrong(path, f"absent: {strange[0]!r} is not an optional field of {schema.name}")
    if not 0 < about["examples"] < _MANY:
        raise _wrong(path, f"examples: {about['examples']}, expected the number of examples")
    return about


def _lengths(path: Path, examples: int) -> np.ndarray:
    """Return how many rows each example has, all of them together fewer than an int64 can count."""
    lengths = np.array(_mapped(path, np.dtype(np.int64), (examples,)))
    if lengths.min() < 0:
        k = int(lengths.argmin())
        raise _wrong(path, f"example {k} has {lengths[k]} rows")
    if lengths.sum(dtype=np.float64) >= _MANY:  # in int64 the sum may wrap
        raise _wrong(path, "the examples have more rows than there can be")
    return lengths


def _checked(path: Path, t: FieldType, data: Batch) -> np.ndarray:
    """Return the array of a field whose type is `t`, read where it is used, after a check of what it holds."""
    if t.shared:
        shape = t.shape
    elif len(t.axes) < 2:
        shape = (int(data.lengths[t.axes[0]].sum()) if t.axes else len(data), *t.dense)
    else:
        rows = np.prod([data.lengths[a].astype(np.float64) for a in t.axes], axis=0)
        if rows.sum() >= _MANY:  # in int64 the products may wrap
            raise _wrong(path, f"the examples have more elements than there can be{_files(t.axes)}")
        shape = (int(data._rows(t).sum()), *t.dense)
    array = _mapped(path, t.dtype, shape, _files(t.axes))
    if t.dtype.kind == "b":
        _check_parts(path, array, lambda part, at: part.view(np.uint8) > 1, "neither 0 nor 1, as a bool is", np.uint8)
    if t.target is not None:
        _check_indices(path, array, t, data)
    return array


def _check_indices(path: Path, array: np.ndarray, t: FieldType, data: Batch) -> None:
    """Check that each index points at a row of its own example."""
    begins, sizes = data.offsets[t.target], data.lengths[t.target]
    ends = data._begins(t)[1:] if t.axes else None

    def bad(part: np.ndarray, at: int) -> np.ndarray:
        rows = np.arange(at, at + len(part))
        if ends is None:
            whose = rows
        else:
            first, last = np.searchsorted(ends, rows[[0, -1]], side="right")
            borders = np.clip(ends[first:last + 1], at, at + len(part))
            whose = np.repeat(np.arange(first, last + 1), np.diff(borders, prepend=at))
        shape = (-1, *[1] * len(t.dense))
        first = begins[whose].reshape(shape)
        outside = (part < first) | (part >= first + sizes[whose].reshape(shape))
        return outside if t.null is None else outside & (part != t.null)

    _check_parts(path, array, bad, f"not a row of {t.target} of its example{_files([t.target])}")


def _check_parts(path: Path, array: np.ndarray, bad: Callable[[np.ndarray, int], np.ndarray], why: str,
                 shown: Any = None) -> None:
    """Raise `BatchError` at the first element that is bad; a part of the array is in memory at a time."""
    step = max(1, _PART // max(1, math.prod(array.shape[1:])))
    for at in range(0, len(array) if array.ndim else 1, step):
        part = array[at:at + step] if array.ndim else array[None]
        wrong = bad(part, at)
        if wrong.any():
            place = tuple(map(int, np.argwhere(wrong)[0]))
            value = (part if shown is None else part.view(shown))[place]
            place = [place[0] + at, *place[1:]][1 - bool(array.ndim):]
            raise _wrong(path, f"element {place} is {value}, {why}")


def _files(axes: Sequence[Axis]) -> str:
    """Return what names the files that count the rows of axes, and may be those that are wrong."""
    return f", by {' and '.join(f'lengths {axis}.npy' for axis in axes)}" if axes else ""


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...], by: str = "") -> np.ndarray:
    """Return the array in a file, read where it is used; an empty one cannot be mapped. `by` says whence the shape."""
    if not path.is_file():
        raise _wrong(path, "there is no such file")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise _wrong(path, f"of version {version} of the .npy format, expected (1, 0)")
            have, fortran, kind = np.lib.format.read_array_header_1_0(file)
            begin = file.tell()
    except BatchError:
        raise
    except Exception as error:  # NumPy's reader of headers raises what Python's tokenizer and parser do
        raise _wrong(path, f"not an .npy file: {error}") from None
    if kind != dtype:
        raise _wrong(path, f"its dtype is {kind}, expected {dtype}")
    if have != shape or (fortran and len(shape) > 1):
        order = ", in Fortran's order" if fortran else ""
        raise _wrong(path, f"its shape is {list(have)}{order}, expected {list(shape)}{by}")
    nbytes, size = math.prod(shape) * dtype.itemsize, path.stat().st_size - begin
    if size != nbytes:
        raise _wrong(path, f"it holds {size} bytes, and {nbytes} belong to the shape {list(shape)}")
    if not nbytes:
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", begin, shape))


# -- writing -------------------------------------------------------------------------------------------------


def _parts(examples: Iterable[Any], kind: Any, chunk: int) -> Iterator[Batch]:
    if isinstance(examples, Batch):
        for start in range(0, len(examples), chunk):
            yield examples[start:start + chunk]
        return
    several = iter(examples)
    while some := list(itertools.islice(several, chunk)):
        yield batch(some, kind)


def _per_example(part: Batch) -> list[str]:
    return [n for n, t in part.schema.fields.items()
            if not t.counts and not t.shared and part._fields[n] is not None]


def _append(part: Batch, first: Batch, growing: Mapping[str, Growing], before: Mapping[Any, int]) -> None:
    """Write the rows of `part` after those that are there, its indices moved by the rows `before` them."""
    schema = part.schema
    if schema != first.schema or _per_example(part) != list(growing):
        raise BatchError(at_user_line("save_dataset: all examples are of one class, and have the same optional fields"))
    for name, t in schema.fields.items():
        if t.shared and not np.array_equal(part._fields[name], first._fields[name], equal_nan=t.dtype.kind == "f"):
            raise BatchError(at_user_line(f"save_dataset: {schema.name}.{name} is shared, but differs between "
                                          "examples"))
        if name not in growing:
            continue
        value = part._fields[name]
        if t.target is not None:
            value = value.copy()
            shift_indices(value, before[t.target], t.null)
        growing[name].append(value)


class Growing:
    """An ``.npy`` file to which rows are appended; the number of rows is written into its header at the end."""

    def __init__(self, path: Path, like: np.ndarray):
        self.rows = 0
        self._dtype, self._tail = like.dtype, like.shape[1:]
        self._file: BinaryIO = path.open("w+b")
        self._header()

    def _header(self) -> None:
        # NumPy leaves room in it for a larger number of rows.
        about = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False,
                 "shape": (self.rows, *self._tail)}
        np.lib.format.write_array_header_1_0(self._file, about)

    def append(self, rows: np.ndarray) -> None:
        """Write rows after those that are there."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()
