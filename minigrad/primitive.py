"""Primitives: the record of an operation with all of its rules.

A `Primitive` has a type rule, an evaluation in any array-API namespace, and the rules of reverse mode, forward mode and
batching. Families (`minigrad.families`) fill in the rules that their members share. Rules take and return nodes, so
their results can be batched and differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, overload

import numpy as np

from .axes import Declared, Placed
from .errors import GraphError, ShapeError, Unsupported, at_user_line
from .graph import PRIMITIVES, ArrayType, Node, Number, Params, TupleType, constant_of, full
from .immutable import Frozen, Record
from .symbolic import Dim, Shape


class ArrayNamespace(Protocol):
    """The functions that compute on arrays of one library: ``numpy``, ``cupy``.

    ``numpy.ndarray`` in the annotations of an evaluation stands for the library's array.
    """

    def __getattr__(self, name: str, /) -> Callable[..., np.ndarray]: ...

    @property
    def fft(self) -> ModuleType: ...

    @property
    def linalg(self) -> ModuleType: ...

    @property
    def nonzero(self) -> Callable[..., tuple[np.ndarray, ...]]: ...


class Sample(Record):
    """Inputs on which a primitive is tested.

    Attributes
    ----------
    arrays : tuple of numpy.ndarray
        Float arrays are tested in float32 too.
    params : dict
    order : int
        The highest order of derivatives at this point (0: none are tested).
    """

    arrays: tuple[np.ndarray, ...]
    params: dict[str, Any] = {}  # noqa: RUF012  # never changed
    order: int = 2


class Rewriter(Protocol):
    """The interface of a pass to simplification rules: new nodes are rewritten in turn.

    Attributes
    ----------
    like : Node
        The node under rewriting.
    """

    like: Node

    def __call__(self, name: str, *inputs: Node, **params: object) -> Node:
        """Return a node of the primitive called `name`, rewritten."""

    def full(self, value: Number, shape: Shape, dtype: np.dtype) -> Node:
        """Return the constant array of one value."""

    def feeds_one(self, i: int) -> bool:
        """Return whether the node under rewriting is the only user of its operand `i`."""

    def absorb(self, node: Node, since: int) -> Node:
        """Return a node with its operands from serial `since` on rewritten."""


Flops = Callable[[Node, Callable[..., int], Callable[..., float]], float]
Rule = Callable[["Rewriter", ArrayType, tuple[Node, ...], Params], "Node | None"]


class Laws(Record):
    """Algebraic laws of an operation that hold exactly, NaN and infinity included."""

    commutative: bool = False  # f(x, y) = f(y, x)
    idempotent: bool = False  # f(x, x) = x; a reduction of equal elements returns one of them
    involution: bool = False  # f(f(x)) = x
    neutral: Mapping[int, float] = {}  # by operand, its value at which f is the other operand
    compose: Callable[[Params, Params], Params] | None = None  # of inner and outer: those of one operation for the two


Size = int | Dim


class Combiner(Record):
    """An associative operation of two values."""

    name: str  # in axis rules
    identity: Callable[[np.dtype], Number]  # the neutral element among the values of a dtype
    functor: str  # the struct of the CUDA prelude
    ufunc: np.ufunc
    kernel: str  # the scalar expression, as of elementwise primitives; the first operand wins a tie
    position: bool = False  # the result is the position of the value that ufunc and kernel select


class Window(NamedTuple):
    """The positions of a view's elements in its operand.

    On axis a of the operand, the position is ``start[a] + step[a] * index[axes[a]]``; axes not in `axes` repeat it.
    """

    axes: tuple[int, ...]
    start: tuple[Size, ...]
    step: tuple[int, ...]

    def repeated(self, ndim: int) -> list[int]:
        """Return the axes of the result, of `ndim`, along which the view repeats."""
        return [k for k in range(ndim) if k not in self.axes]

    @property
    def moved(self) -> bool:
        """Whether the view leaves elements out or reverses them; otherwise it permutes axes and repeats."""
        return any(self.start) or any(s != 1 for s in self.step)


class View(Record):
    """The declaration of a view."""

    # The node's window; None: the elements keep their row-major order, or are a part of a tuple.
    window: Callable[[Node], Window] | None = None
    free: bool = True  # any operand has such a view; otherwise only one whose elements lie in one piece
    in_order: bool = False  # element k of the result, in row-major order, is element k of the operand


IN_ORDER = View(free=False, in_order=True)  # the operand's elements in row-major order, in another shape
PART = View(in_order=True)  # one array of a tuple


FIRST = slice(0, 1)


class Primitive(Frozen, Record):
    """An operation and all of its rules.

    Attributes
    ----------
    name : str
    type : callable
        ``type(*input types, **params)`` returns the result's type or raises `ShapeError`.
    eval : callable
        ``eval(xp, *arrays, **params)`` computes it in the array namespace `xp`.
    vjp : callable
        ``vjp(g, out, *inputs, **params)`` returns one cotangent (or None) per input.
    jvp : callable
        ``jvp(tangents, out, *inputs, **params)`` returns the tangent of `out`; tangents that are zero come as None.
    batch : callable
        ``batch(size, mapped, *inputs, **params)``: the inputs marked in `mapped` have one more axis, of
        `size`, in front; so must the result. The axis rule implies it, where it has a `placed`.
    axes : Declared or None
        The axis rule: the relation of the result's axes to those of the operands (see `axes`).
    linear : {"", "jointly", "separately", "first"}
        Linear in all operands at once (``add``), in each while the others stay (``mul``), or in the first (``div``).
    constant : bool
        The derivatives are zero everywhere, as those of ``sign`` and ``stop_gradient``.
    picks : slice
        The operands whose elements the result's elements are, such as the first one of `gather`. Views have those of
        their operand, and so have operations that only move elements by their axis rule (`ops.checks.picked`).
    flops : callable or None
        ``flops(node, value, count)`` returns the number of arithmetic operations: ``value(size)`` is the number that a
        size stands for, ``count(graph, **sizes)`` the operations of a held graph. None: as the axis rule implies.
    defines : str
        The static parameter that is a size whose number is the node's value (see `defined_sizes`).
    combiner : Combiner or None
        The operation of a reduction, scan or scatter whose result is the combination alone (see `combiners`): backends
        print the combiner, and do not call `eval`. None for an operation that does more, such as a weighted sum.
    view : View or None
        The place of the result in the first operand's memory (see `views`); None: in its own memory.
    kind : str
        ``leaf`` (has no operands and is not computed), ``elementwise``, ``reduce``, ``view`` (implied by `view`),
        ``matrix`` (works on the last two axes), ``transform`` (on the last one as a whole), ``check`` (refuses values:
        programs keep it) or ``other``.
    effect : bool
        Programs run it once for each example, in the order of the code, whether anything reads its result or not.
    kernel : str
        For elementwise primitives, the scalar expression that every backend prints.
    laws : Laws
        Algebraic laws, which `passes.simplify` applies.
    simplify : callable or None
        ``simplify(rewriter, type, inputs, params)`` returns an equal node with less work, or None.
    inline : bool
        The graph that a node holds runs once, as if it were written out.
    distinct : bool
        Equal nodes are not merged.
    key : callable or None
        ``key(params)`` returns the static parameters for comparison; None: compared by equality.
    overwrites : tuple of int or None
        The operands whose memory may take the result, element by element; None: that of every one.
    ufunc : numpy.ufunc or None
        NumPy's function of the same values, of elementwise primitives (those of reductions: `Combiner.ufunc`).
    symbol : str
        The sign or word for the operation in a drawing; its name by default.
    printed : callable or None
        ``printed(node, operands, value)`` returns the call; ``value(param)`` spells a static parameter.
    drawn : callable or None
        ``drawn(node, value)`` returns the words for the operation and its parameters in a drawing.
    raises : str
        The kinds of dtype of the result at which the evaluation may raise an error, of ``"biuf"``.
    samples : callable
        Returns the `Sample`s of the test family.
    hidden_params : frozenset of str
        Parameters that the printed page leaves out, because the type implies them.
    params : mapping of str to type, "annotated", or None
        The static parameters and their types: as the type rule is annotated, or given here; None: of any kind.
    """

    name: str
    type: Callable[..., ArrayType | TupleType]
    eval: Callable[..., Any]
    vjp: Callable[..., Sequence[Node | tuple[Node | None, ...] | None]] | Unsupported
    jvp: Callable[..., Node | tuple[Node | None, ...]] | Unsupported
    batch: Callable[..., Node | tuple[Node, ...]] | Unsupported | None = None
    axes: Declared | None = None
    linear: Literal["", "jointly", "separately", "first"] = ""
    constant: bool = False
    picks: slice = slice(0)
    flops: Flops | None = None
    defines: str = ""
    combiner: Combiner | None = None
    view: View | None = None
    kind: str = "other"
    effect: bool = False
    kernel: str = ""
    laws: Laws = Laws()
    simplify: Rule | None = None
    raises: str = ""
    ufunc: np.ufunc | None = None
    symbol: str = ""
    printed: Callable[[Node, Sequence[str], Callable[[object], str]], str] | None = None
    drawn: Callable[[Node, Callable[[object], str]], str] | None = None
    inline: bool = False
    distinct: bool = False
    key: Callable[[Params], tuple[object, ...]] | None = None
    overwrites: tuple[int, ...] | None = None
    samples: Callable[[], list[Sample]] = list
    hidden_params: frozenset[str] = frozenset()
    params: Params | Literal["annotated"] | None = "annotated"

    def __post_init__(self) -> None:
        if dict.__contains__(PRIMITIVES, self.name):
            raise GraphError(f"a primitive called {self.name!r} exists already")
        if self.batch is None and (self.axes is None or self.axes.placed is None):
            raise GraphError(f"{self.name}: a primitive needs a batch rule, or an axis rule that implies one")
        if self.view is not None:
            object.__setattr__(self, "kind", "view")
        PRIMITIVES[self.name] = self

    def __call__(self, *inputs: Node, **params: object) -> Node:
        """Make a node, after the type rule has accepted the inputs."""
        return Node(self, inputs, params, self.type(*[i.type for i in inputs], **params))

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def _batch_by_axes(prim: Primitive, placed: Placed, n: int | Dim, mapped: Sequence[bool], /, *xs: Node,
                   **params: object) -> Node:
    """Batch by the axis rule: the same operation with one more parallel axis in front of every operand."""
    stacked = broadcast_operands(xs, mapped, n)
    return prim(*stacked, **placed(params, (None, *range(stacked[0].ndim - 1)), n))


@overload
def rule(node: Node, name: Literal["vjp"]) -> Callable[..., Sequence[Node | None]]: ...


@overload
def rule(node: Node, name: Literal["jvp", "batch"]) -> Callable[..., Node]: ...


def rule(node: Node, name: Literal["vjp", "jvp", "batch"]) -> Callable[..., object]:
    """Return the node's rule called `name`, or raise the reason for its absence."""
    declared: Callable[..., object] | Unsupported | None = getattr(node.prim, name)
    if isinstance(declared, Unsupported):
        raise Unsupported(f"{node.where}: {node.prim.name} has no {name} rule: {declared}")
    if declared is None and node.prim.axes is not None and node.prim.axes.placed is not None:
        return functools.partial(_batch_by_axes, node.prim, node.prim.axes.placed)
    if declared is None:
        raise GraphError(f"{node.prim.name} has no {name} rule")
    return declared


def on_host(x: object) -> np.ndarray:
    """Return an array of any namespace as NumPy's, copied from a GPU."""
    return adopt(x).get() if hasattr(x, "__cuda_array_interface__") else np.asarray(x)


def adopt(x: object) -> Any:
    """Return another library's array on a GPU as CuPy's, without a copy; any other value as it is.

    DLPack makes CuPy's current stream wait for the work that computes the array; ``__cuda_array_interface__``, which
    `cupy.asarray` reads, may name no stream to wait for (JAX's does not).
    """
    if isinstance(x, (np.ndarray, np.generic)) or not hasattr(x, "__cuda_array_interface__"):
        return x
    import cupy

    if isinstance(x, cupy.ndarray):
        return x
    return cupy.from_dlpack(x) if hasattr(x, "__dlpack__") else cupy.asarray(x)


def fail(name: str, why: str, *types: ArrayType, hint: str = "") -> ShapeError:
    """Return a type rule's error: the user's line, the operation, the types, and a hint."""
    operands = ", ".join(map(str, types))
    return ShapeError(at_user_line(f"{name}({operands}): {why}" + (f". {hint}" if hint else "")))


def free(*args: object) -> float:
    """Return the operation count of a node without arithmetic."""
    return 0.0


def broadcast_leading(x: Node, size: int | Dim) -> Node:
    """Broadcast `x` along a new axis 0 of `size`."""
    if (value := constant_of(x)) is not None:
        return full(value, (size, *x.shape), x.dtype)
    return PRIMITIVES["expand"](x, shape=(size, *x.shape), axes=(0,))


def broadcast_operands(xs: Sequence[Node], mapped: Sequence[bool], size: int | Dim) -> list[Node]:
    """Return operands with the batch axis in front, along which unmapped ones are broadcast."""
    return [x if m else broadcast_leading(x, size) for x, m in zip(xs, mapped, strict=True)]


def broadcast_axes(x: Node) -> tuple[int, ...]:
    """Return the axes along which `x` is known to repeat one value."""
    if x.prim is PRIMITIVES["expand"]:
        axes: tuple[int, ...] = x.params["axes"]
        return axes
    return tuple(range(x.ndim)) if constant_of(x) is not None else ()


def unbroadcast(x: Node, axes: Collection[int], rewriter: Rewriter | None = None) -> Node:
    """Return `x` without some of its `broadcast_axes`; a pass makes the node by its `rewriter`."""
    if not axes:
        return x
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = tuple(x.shape[a] for a in kept)
    if (value := constant_of(x)) is not None:
        return (rewriter.full if rewriter else full)(value, shape, x.dtype)
    left = tuple(i for i, a in enumerate(kept) if a in x.params["axes"])
    (x,) = x.inputs
    if not left:
        return x
    if rewriter:
        return rewriter("expand", x, shape=shape, axes=left)
    return PRIMITIVES["expand"](x, shape=shape, axes=left)


def move_axis(x: Node, source: int, to: int) -> Node:
    """Return `x` with one axis moved."""
    if source == to:
        return x
    perm = [a for a in range(x.ndim) if a != source]
    perm.insert(to, source)
    return PRIMITIVES["transpose"](x, perm=tuple(perm))


# -- leaves of every graph -------------------------------------------------------------------------


def _no_inputs(*args: object, **params: object) -> NoReturn:
    raise GraphError("a node without inputs is never batched or differentiated")


def leaf(name: str, type: Callable[..., ArrayType], eval: Callable[..., object], **fields: Any) -> Primitive:
    """Declare a primitive without operands or computation."""
    return Primitive(name, type, eval, _no_inputs, _no_inputs, _no_inputs, kind="leaf", **fields)


input_ = leaf("input", lambda *, shape, dtype: ArrayType(shape, dtype), _no_inputs, flops=free,
              params={"shape": Shape, "dtype": np.dtype})


def placeholder(t: ArrayType, like: Node | None = None) -> Node:
    """Return a fresh input of type `t`, with the line of `like` if given."""
    return Node(input_, (), {"shape": t.shape, "dtype": t.dtype}, t, like)


def fresh_inputs(types: Iterable[ArrayType]) -> list[Node]:
    """Return fresh inputs of `types`, all with the user's current line."""
    line = placeholder(ArrayType((), np.dtype(bool)))
    return [placeholder(t, line) for t in types]
