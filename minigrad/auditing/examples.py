"""Examples and gradients of any library: columns of examples, pytrees as flat vectors."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import optree

from ..errors import BatchError, GradError, at_user_line, format_structure
from ..graph import InAxes, PyTree
from ..ragged.batch import is_batch

Step: TypeAlias = Callable[..., PyTree]


def array_of(x: PyTree) -> np.ndarray:
    """Return an array of any library, on any device, as a floating NumPy array."""
    for method in ("detach", "cpu"):  # PyTorch hands out no memory of a tensor in a graph, or on a device
        if hasattr(x, method):
            x = getattr(x, method)()
    if type(x).__module__.startswith("torch") and str(x.dtype) == "torch.bfloat16":
        x = x.float()
    if hasattr(x, "get") and type(x).__module__.startswith("cupy"):
        x = x.get()
    out = np.asarray(x)
    if out.dtype.kind in "cOSUmM":
        raise GradError(at_user_line(f"audit: gradients and parameters are real numbers, not of type {out.dtype}"))
    return out if out.dtype.kind == "f" else out.astype(np.float32 if out.dtype.kind == "V" else np.float64)


def without_bfloat16(tree: PyTree) -> PyTree:
    """Return a pytree with float32 arrays of NumPy in place of bfloat16 arrays, which minigrad has not."""
    leaves, structure = optree.tree_flatten(tree)
    kinds = [str(getattr(x, "dtype", "")).rpartition(".")[2] for x in leaves]
    if "bfloat16" not in kinds:
        return tree
    arrays = [array_of(x).astype(np.float32) if k == "bfloat16" else x for x, k in zip(leaves, kinds, strict=True)]
    return optree.tree_unflatten(structure, arrays)


def precision_of(tree: PyTree) -> float:
    """Return the largest round-off among the floating arrays of a pytree."""
    kinds = [str(getattr(x, "dtype", "float64")).rpartition(".")[2] for x in optree.tree_leaves(tree)]
    own = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return max((own.get(k, 0.0) for k in kinds), default=0.0) or 2.0**-52


class Parameters:
    """The parameters: their structure, and other ones like them.

    Attributes
    ----------
    tree : pytree
    size : int
        The number of elements.
    """

    def __init__(self, tree: PyTree):
        self.tree = tree
        self._leaves, self._structure = optree.tree_flatten(tree)
        self._arrays = [array_of(x).copy() for x in self._leaves]
        self.names = tuple("".join(f"[{p!r}]" for p in path) for path in optree.tree_paths(tree))
        self.size = sum(a.size for a in self._arrays)
        if not self.size:
            raise GradError(at_user_line("audit: there are no parameters"))

    @property
    def changed(self) -> bool:
        """Whether a leaf holds other numbers than at first."""
        return not all(np.array_equal(array_of(x), a, equal_nan=True)
                       for x, a in zip(self._leaves, self._arrays, strict=True))

    def gradient_of(self, returned: PyTree) -> PyTree:
        """Return a gradient, or the second of (value, gradient)."""
        pair = isinstance(returned, tuple) and len(returned) == 2
        return returned[1] if pair and optree.tree_structure(returned) != self._structure else returned

    def vector(self, gradient: PyTree, source: str) -> np.ndarray:
        """Return a gradient as one vector.

        Raises
        ------
        GradError
            If its structure or shapes are not those of the parameters, or an element is not finite.
        """
        leaves, structure = optree.tree_flatten(gradient)
        if structure != self._structure:
            raise GradError(at_user_line(
                f"audit: {source} has the structure {format_structure(structure)}, the parameters "
                f"{format_structure(self._structure)}. The arguments are audit(step, loss, params, examples), and the "
                "step returns a gradient"))
        arrays = [array_of(x) for x in leaves]
        for name, a, p in zip(self.names, arrays, self._arrays, strict=True):
            if a.shape != p.shape:
                raise GradError(at_user_line(f"audit: {source} has shape {a.shape} at {name or 'its only leaf'}, "
                                             f"where params{name} has shape {p.shape}"))
            if not np.isfinite(a).all():
                raise GradError(at_user_line(f"audit: {source} is not finite at {name or 'its only leaf'}"))
        return np.concatenate([a.ravel().astype(np.float64) for a in arrays])

    def near(self, rng: np.random.Generator) -> PyTree:
        """Return other parameters, drawn at random about these, of the same types."""
        leaves = []
        for x, a in zip(self._leaves, self._arrays, strict=True):
            spread = max(float(np.std(a)), 0.1)
            moved = (a + spread * rng.normal(size=a.shape)).astype(a.dtype)
            leaves.append(_like(x, moved))
        return optree.tree_unflatten(self._structure, leaves)

    def nudged(self, rng: np.random.Generator, size: float) -> PyTree:
        """Return parameters whose elements differ from these at random, by about this share."""
        leaves = [_like(x, (a + size * a * rng.normal(size=a.shape)).astype(a.dtype))
                  for x, a in zip(self._leaves, self._arrays, strict=True)]
        return optree.tree_unflatten(self._structure, leaves)

    def split(self, vector: np.ndarray) -> PyTree:
        """Return a vector in the structure of the parameters, in their dtypes."""
        leaves, start = [], 0
        for a in self._arrays:
            leaves.append(vector[start:start + a.size].reshape(a.shape).astype(a.dtype))
            start += a.size
        return optree.tree_unflatten(self._structure, leaves)


def _like(x: PyTree, array: np.ndarray) -> PyTree:
    """Return an array in the library of `x`."""
    if hasattr(x, "new_tensor"):
        return x.detach().new_tensor(array).requires_grad_(x.requires_grad)
    return array if isinstance(x, np.ndarray) else array[()]


class Examples:
    """The examples of a step: arguments that hold one entry per example, or are shared.

    An argument is a list with one entry per example, a `Batch`, or a pytree of arrays of any library.

    Attributes
    ----------
    args : tuple
    size : int
        The number of examples.
    """

    def __init__(self, args: tuple[PyTree, ...], in_axes: InAxes = None):
        self.args = args
        of_params, *axes = in_axes if isinstance(in_axes, (tuple, list)) else (
            None, *[0 if in_axes is None else in_axes] * len(args))
        if len(axes) != len(args):
            raise BatchError(at_user_line(f"audit: in_axes has {len(axes) + 1} entries for the parameters and "
                                          f"{len(args)} arguments of examples"))
        if of_params is not None:
            raise BatchError(at_user_line(f"audit: in_axes[0] is {of_params!r}, but all examples share the parameters; "
                                          "it must be None"))
        self.axes: list[PyTree] = axes
        sizes = [n for k, (arg, axis) in enumerate(zip(args, axes, strict=True)) for n in _sizes(arg, axis, k)]
        if len(set(sizes)) > 1:
            raise BatchError(at_user_line("audit: the arguments have different numbers of examples: "
                                          + ", ".join(map(str, sizes))))
        if not sizes or not sizes[0]:
            raise BatchError(at_user_line("audit: there are no examples"))
        self.size = sizes[0]

    def take(self, rows: Sequence[int] | np.ndarray) -> tuple[PyTree, ...]:
        """Return the arguments for some of the examples."""
        return tuple(_taken(a, axis, np.asarray(rows)) for a, axis in zip(self.args, self.axes, strict=True))

    def one(self, k: int) -> tuple[PyTree, ...]:
        """Return the arguments of example k alone."""
        return tuple(_taken(a, axis, k) for a, axis in zip(self.args, self.axes, strict=True))

    @property
    def dense(self) -> bool:
        """Whether all examples have one shape: arrays, with the examples along an axis."""
        return not any(isinstance(a, list) or is_batch(a) for a in self.args)

    def lengths(self) -> dict[str, np.ndarray]:
        """Return the size of each ragged axis in every example."""
        found: dict[str, np.ndarray] = {}
        for arg, axis in zip(self.args, self.axes, strict=True):
            if axis is not None and is_batch(arg):
                found.update({a.name: np.asarray(n) for a, n in arg.lengths.items()})
        return found


    def checksum(self) -> int:
        """Return a number that changes when a step writes to an array of examples."""
        total = 0
        leaves: list[PyTree] = [x for arg in self.args for x in optree.tree_leaves(arg)]
        for x in leaves:
            if hasattr(x, "dtype"):
                total = zlib.crc32(array_of(x).tobytes() if hasattr(x, "detach") else np.asarray(x).tobytes(), total)
        return total


def _sizes(arg: PyTree, axis: PyTree, position: int) -> list[int]:
    if axis is None:
        return []
    if isinstance(arg, list) or is_batch(arg):
        return [len(arg)]
    leaves: list[PyTree] = optree.tree_leaves(arg)
    axes: list[PyTree] = optree.broadcast_prefix(axis, arg, none_is_leaf=True)
    for x, a in zip(leaves, axes, strict=True):
        if a is not None and not -np.ndim(x) <= a < np.ndim(x):
            raise BatchError(at_user_line(
                f"audit: argument {position} of the examples holds {_described(x)}, without an axis {a} of examples; "
                "in_axes has None for an argument that all examples share"))
    return [np.shape(x)[a] for x, a in zip(leaves, axes, strict=True) if a is not None]


def _described(x: PyTree) -> str:
    return f"an array of shape {np.shape(x)}" if hasattr(x, "shape") else f"a {type(x).__name__}"


def _taken(arg: PyTree, axis: PyTree, rows: np.ndarray | int) -> PyTree:
    if axis is None:
        return arg
    if isinstance(arg, list):
        return arg[rows] if isinstance(rows, int) else [arg[int(k)] for k in rows]
    if is_batch(arg):
        return arg[rows]
    axes: PyTree = optree.tree_unflatten(optree.tree_structure(arg), optree.broadcast_prefix(axis, arg,
                                                                                           none_is_leaf=True))
    return optree.tree_map(lambda x, a: x if a is None else x[(slice(None),) * (a % np.ndim(x)) + (rows,)], arg, axes,
                           none_is_leaf=False)
