"""Datasets: objects with a length, whose ``dataset[indices]`` is a batch.

A packed `Batch` of all examples is a dataset whose batches are gathers, without a loop over examples. Others are such a
batch in files, larger than memory; arrays whose axis 0 counts the examples; and data frames.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import optree

from ..errors import BatchError, at_user_line
from ..graph import ArrayType, PyTree
from ..tracebacks import boundary
from .axes import Axis, FieldType, as_field
from .batch import Batch, batch, shift_indices
from .schema import Schema, schema_of

FORMAT = 1
ABOUT = "dataset.json"  # written last: without it, the writing was interrupted
_MANY = 2.0**62  # more rows than a dataset can have
_PART = 1 << 20  # elements per part of a check


class Arrays:
    """A pytree of arrays as a dataset: axis 0 counts the examples."""

    def __init__(self, tree: PyTree):
        leaves, self._structure = optree.tree_flatten(tree)
        self._leaves = [np.asarray(x) for x in leaves]
        lengths = {x.shape[0] if x.ndim else None for x in self._leaves}
        if len(lengths) != 1 or None in lengths:
            shapes = ", ".join(str(x.shape) for x in self._leaves) or "there is no array"
            raise BatchError(at_user_line("a dataset of arrays: axis 0 counts the examples, so all arrays have it, "
                                          f"with one length; the shapes are {shapes}"))
        self._length = len(self._leaves[0])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: np.ndarray) -> PyTree:
        """Return the examples `indices`, in new arrays."""
        return optree.tree_unflatten(self._structure, [x.take(indices, axis=0) for x in self._leaves])


class Table:
    """A data frame or series as a dataset: its rows are the examples, by position and not by label."""

    def __init__(self, frame: Any):
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, indices: np.ndarray) -> Any:
        """Return the rows `indices`, as a frame (or series)."""
        return self._frame.iloc[indices]


class Dataset(Protocol):
    """Examples that are read in batches."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, indices: np.ndarray) -> PyTree:
        """Return the batch of the examples `indices`."""


def as_dataset(data: object) -> Dataset:
    """Return `data` as a dataset."""
    if isinstance(data, (tuple, list)) and len(data) and schema_of(type(data[0])) is not None:
        return batch(data)
    if isinstance(data, list):
        raise BatchError(at_user_line("a dataset that is a list holds examples of a class made by @mg.example. A list "
                                      "of arrays is ambiguous: give fields as a tuple or a dict, examples of one shape "
                                      "as np.stack(list), of several as mg.batch(list, type)"))
    if schema_of(type(data)) is not None and not isinstance(data, Batch):
        raise BatchError(at_user_line(f"a dataset holds many examples, got one {type(data).__name__}: give a list"))
    if hasattr(type(data), "iloc"):  # a data frame's brackets take columns
        return Table(data)
    if isinstance(data, Mapping) and not isinstance(data, dict):  # such as an archive of arrays: its brackets take keys
        return Arrays(dict(data))
    if isinstance(data, (tuple, dict, np.ndarray)) or not hasattr(type(data), "__getitem__"):
        return Arrays(data)
    return cast(Dataset, data)


def sizes_of(dataset: object) -> Mapping[Axis | str, np.ndarray]:
    """Return the size of every example on each ragged axis."""
    lengths = getattr(dataset, "lengths", None)
    return lengths if isinstance(lengths, Mapping) else {}


# -- in files ------------------------------------------------------------------------------------------------


@boundary
def save_dataset(path: str | Path, examples: Iterable[PyTree], kind: FieldType | ArrayType | None = None,
                 chunk: int = 1024) -> Path:
    """Write examples into a folder, one ``.npy`` file per field; the examples need not fit into memory.

    Parameters
    ----------
    path : str or Path
        A new folder, or an empty one.
    examples : iterable
        As for `minigrad.batch`; or a `Batch`.
    kind : array type, optional
        The type of examples that are arrays.
    chunk : int
        The number of examples that are packed at a time.

    Returns
    -------
    Path
        The folder, for `open_dataset`.

    Raises
    ------
    BatchError
        If the folder is not empty, `chunk` is below 1, `examples` is empty, or `minigrad.batch` refuses them.

    Examples
    --------
    >>> import tempfile
    >>> word = mg.axis("word")
    >>> folder = mg.save_dataset(tempfile.mkdtemp(), (np.arange(n) for n in (2, 0, 3)), mg.i64[word])
    >>> mg.open_dataset(folder, mg.i64[word])[2]
    array([0, 1, 2])
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BatchError(at_user_line(f"save_dataset: {folder} exists already; give a new folder, or empty it"))
    if chunk < 1:
        raise BatchError(at_user_line(f"save_dataset: chunk must be at least 1, got {chunk}"))
    parts = _parts(examples, kind, chunk)
    first = next(parts, None)
    if first is None:
        raise BatchError(at_user_line("save_dataset() needs at least one example"))
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
def open_dataset(path: str | Path, kind: type | FieldType | ArrayType) -> Batch:
    """Return the batch of all examples in a folder, whose arrays are memory-mapped files.

    Parameters
    ----------
    path : str or Path
        A folder written by `save_dataset`.
    kind : schema or array type
        The class of the examples, or the type of examples that are arrays.

    Returns
    -------
    Batch
        Its packed arrays are read-only. ``dataset[indices]`` reads these examples into memory. A pickle holds the
        path, and another process reopens the files.

    Raises
    ------
    BatchError
        If the folder is not a dataset, was written with another schema, or a file is not as `save_dataset` wrote it;
        the error names the file. Indices and bools are read once for this check.

    Examples
    --------
    >>> import tempfile
    >>> word = mg.axis("word")
    >>> folder = mg.save_dataset(tempfile.mkdtemp(), [np.ones(2), np.zeros(1)], mg.f64[word])
    >>> mg.open_dataset(folder, mg.f64[word])
    <batch of arrays: 2 examples, 3 words>
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


# -- reading untrusted files ---------------------------------------------------------------------------------


def _wrong(path: Path, why: str) -> BatchError:
    return BatchError(at_user_line(f"open_dataset: {path}: {why}"))


def _about(folder: Path, schema: Schema) -> dict[str, Any]:
    """Return the description of the dataset in `folder`, after a check against `schema`."""
    path = folder / ABOUT
    if not path.is_file():
        raise BatchError(at_user_line(f"open_dataset: {folder} has no {ABOUT}: it is not a dataset, or its writing was "
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
    stored, declared = about["fields"], {n: str(t) for n, t in schema.fields.items()}
    if stored != declared:
        differing = [n for n in {**stored, **declared} if stored.get(n) != declared.get(n)]
        raise BatchError(at_user_line(
            f"open_dataset: {folder} holds {about['schema']}s with other fields than {schema.name} has: " + "; ".join(
                f"{n} is {stored.get(n, 'missing')} there and {declared.get(n, 'missing')} here" for n in differing)))
    if strange := [n for n in about["absent"] if not isinstance(n, str) or n not in schema.optional]:
        raise _wrong(path, f"absent: {strange[0]!r} is not an optional field of {schema.name}")
    if not 0 < about["examples"] < _MANY:
        raise _wrong(path, f"examples: {about['examples']}, expected the number of examples")
    return about


def _lengths(path: Path, examples: int) -> np.ndarray:
    """Return the number of rows of each example, after a check that an int64 holds their sum."""
    lengths = _mapped(path, np.dtype(np.int64), (examples,))
    if lengths.min() < 0:
        k = int(lengths.argmin())
        raise _wrong(path, f"example {k} has {lengths[k]} rows")
    if lengths.sum(dtype=np.float64) >= _MANY:  # in int64 the sum may wrap
        raise _wrong(path, "the examples have more rows than there can be")
    return lengths


def _checked(path: Path, t: FieldType, data: Batch) -> np.ndarray:
    """Return the memory-mapped array of a field of type `t`, after a check of its contents."""
    if t.shared:
        shape = t.dense
    elif len(t.axes) < 2:
        shape = (int(data.lengths[t.axes[0]].sum()) if t.axes else len(data), *t.dense)
    else:
        rows = np.prod([data.lengths[a].astype(np.float64) for a in t.axes], axis=0)
        if rows.sum() >= _MANY:  # in int64 the products may wrap
            raise _wrong(path, f"the examples have more elements than there can be{_files(t.axes)}")
        shape = (int(data._rows(t).sum()), *t.dense)
    array = _mapped(path, t.dtype, shape, _files(t.axes))
    if t.dtype.kind == "b":
        _check_parts(path, array, lambda part, start: part.view(np.uint8) > 1, "neither 0 nor 1, as a bool is",
                     np.uint8)
    if t.target is not None:
        _check_indices(path, array, t, t.target, data)
    return array


def _check_indices(path: Path, array: np.ndarray, t: FieldType, target: Axis, data: Batch) -> None:
    """Check that each index is a row of its own example."""
    begins, sizes = data.offsets[target], data.lengths[target]
    ends = data._begins(t)[1:] if t.axes else None

    def bad(part: np.ndarray, start: int) -> np.ndarray:
        rows = np.arange(start, start + len(part))
        if ends is None:
            owners = rows
        else:
            first, last = np.searchsorted(ends, rows[[0, -1]], side="right")
            borders = np.clip(ends[first:last + 1], start, start + len(part))
            owners = np.repeat(np.arange(first, last + 1), np.diff(borders, prepend=start))
        shape = (-1, *[1] * len(t.dense))
        least = begins[owners].reshape(shape)
        outside: np.ndarray = (part < least) | (part >= least + sizes[owners].reshape(shape))
        return outside if t.null is None else outside & (part != t.null)

    _check_parts(path, array, bad, f"not a row of {target} of its example{_files([target])}")


def _check_parts(path: Path, array: np.ndarray, bad: Callable[[np.ndarray, int], np.ndarray], reason: str,
                 shown: type[np.generic] | None = None) -> None:
    """Raise `BatchError` at the first bad element, with one part of the array in memory at a time.

    ``bad(part, start)`` marks the bad elements of the rows from `start` on; `shown` is the dtype that prints one.
    """
    step = max(1, _PART // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array) if array.ndim else 1, step):
        part = array[start:start + step] if array.ndim else array[None]
        wrong = bad(part, start)
        if wrong.any():
            row, *inner = map(int, np.argwhere(wrong)[0])
            value = (part if shown is None else part.view(shown))[(row, *inner)]
            place = [row + start, *inner] if array.ndim else inner
            raise _wrong(path, f"element {place} is {value}, {reason}")


def _files(axes: Sequence[Axis]) -> str:
    """Return the names of the files of lengths that a shape derives from, for an error."""
    return f", by {' and '.join(f'lengths {axis}.npy' for axis in axes)}" if axes else ""


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...], source: str = "") -> np.ndarray:
    """Return the array of a file, memory-mapped unless empty. `source` names the files of the shape, for an error."""
    if not path.is_file():
        raise _wrong(path, "the file does not exist")
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
        order = ", in Fortran order" if fortran else ""
        raise _wrong(path, f"its shape is {list(have)}{order}, expected {list(shape)}{source}")
    nbytes, size = math.prod(shape) * dtype.itemsize, path.stat().st_size - begin
    if size != nbytes:
        raise _wrong(path, f"it holds {size} bytes, but the shape {list(shape)} has {nbytes}")
    if not nbytes:
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", begin, shape))


# -- writing -------------------------------------------------------------------------------------------------


def _parts(examples: Iterable[PyTree], kind: FieldType | ArrayType | None, chunk: int) -> Iterator[Batch]:
    """Yield the examples in batches of `chunk`."""
    if isinstance(examples, Batch):
        for start in range(0, len(examples), chunk):
            yield examples[start:start + chunk]
        return
    several = iter(examples)
    while some := list(itertools.islice(several, chunk)):
        yield batch(some, kind)


def _per_example(part: Batch) -> list[str]:
    """Return the fields that have values of their own for each example."""
    return [n for n, t in part.schema.fields.items() if not t.counts and not t.shared and part._fields[n] is not None]


def _append(part: Batch, first: Batch, growing: Mapping[str, Growing], before: Mapping[Axis, int]) -> None:
    """Append the rows of `part`, with indices shifted by the rows `before` them."""
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
    """An ``.npy`` file that grows by rows; `close` writes their number into the header."""

    def __init__(self, path: Path, like: np.ndarray):
        self.rows = 0
        self._dtype, self._tail = like.dtype, like.shape[1:]
        self._file: BinaryIO = path.open("w+b")
        self._header()

    def _header(self) -> None:
        # NumPy pads the header for a larger number of rows.
        about = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False,
                 "shape": (self.rows, *self._tail)}
        np.lib.format.write_array_header_1_0(self._file, about)

    def append(self, rows: np.ndarray) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the final header, and close the file."""
        self._file.seek(0)
        self._header()
        self._file.close()
