"""The graph: typed, frozen nodes with identity equality, and nothing that knows a derivative.

A `Graph` is inputs, outputs and the nodes between. Nodes carry a serial number that grows as they are made, and a node
is made after its inputs; so sorting by serial *is* a topological order, and no walk over a graph is recursive.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, TypeVar

import numpy as np
import optree

from .errors import DtypeError, GraphError, Location, Place, at_user_line, format_location, user_location
from .immutable import Frozen, Immutable, cached_property
from .symbolic import Dim, Shape, Symbol, format_shape, size_of, symbols
from .tracebacks import boundary
from .tracing import thread

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    import minigrad.explorer

    from .primitive import Primitive

# Types that annotations share. A pytree nests arrays and numbers in tuples, lists, dicts and registered dataclasses.
PyTree: TypeAlias = Any
InAxes: TypeAlias = "int | Sequence[InAxes] | Mapping[str, InAxes] | None"  # a pytree prefix of the arguments
Params: TypeAlias = Mapping[str, Any]  # static parameters of a node
Number: TypeAlias = bool | int | float
K = TypeVar("K")
V = TypeVar("V")

_serial = itertools.count()
_by_serial = operator.attrgetter("serial")


def dtype_of(dtype: DTypeLike, whose: Callable[[], str] = str) -> np.dtype:
    """Return `dtype` as a NumPy dtype that minigrad has arrays of, or raise `DtypeError`, which begins with `whose`."""
    try:
        checked: np.dtype = np.dtype(dtype)
    except TypeError as error:
        raise DtypeError(at_user_line(f"{whose()}{error}")) from None
    if checked.kind not in "biuf":
        kinds = {"c": "complex", "O": "object", "U": "string", "S": "bytes", "M": "datetime"}
        kind = kinds.get(checked.kind, checked.name)
        raise DtypeError(at_user_line(
            f"{whose()}dtype {checked.name}: minigrad has bool, integer and floating arrays, not {kind} ones"
            + (". Split it into its real and imaginary parts." if checked.kind == "c" else
               ". np.asarray(x, dtype=float) converts numbers, and mg.batch(list, type) arrays of different length."
               if checked.kind == "O" else
               ". A string by itself is static: pass 'mean'." if checked.kind in "US" else ".")))
    return np.dtype(checked.str[1:])  # NumPy's own instance: ufunc.at is 30 times as fast with it as with an equal one


def short_dtype(dtype: np.dtype) -> str:
    """Return ``f32`` for float32."""
    return f"{dtype.kind}{8 * dtype.itemsize}" if dtype.kind in "fiu" else dtype.name


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The type of an array: its shape, with sizes that may be symbolic, and its dtype.

    Attributes
    ----------
    shape : tuple of int or Dim
    dtype : numpy.dtype

    Examples
    --------
    >>> print(mg.ArrayType((2, 3), np.dtype("f4")))
    f32[2, 3]
    """

    shape: Shape
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int | Dim:
        return size_of(self.shape)

    @property
    def floating(self) -> bool:
        return self.dtype.kind == "f"

    def __str__(self) -> str:
        return short_dtype(self.dtype) + format_shape(self.shape)


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a node with several results; `proj` nodes take them out."""

    parts: tuple[ArrayType, ...]

    @property
    def floating(self) -> bool:
        return any(p.floating for p in self.parts)

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.parts)) + ")"


class _Fields(Immutable):
    """A node while it is made: attributes of a frozen object take three times as long to write."""

    __slots__ = ("inputs", "loc", "params", "prim", "rules", "serial", "source", "type")

    prim: Primitive
    inputs: tuple[Node, ...]
    params: dict[str, Any]
    type: ArrayType | TupleType
    loc: Location | None
    rules: tuple[str, ...]
    source: Node | None
    serial: int


class Node(Frozen, _Fields):
    """One value of a program.

    Attributes
    ----------
    prim : Primitive
        What computes it.
    inputs : tuple of Node
    params : dict
        Static parameters.
    type : ArrayType or TupleType
    loc : (str, int), Place or None
        The line of the user's code; a `Place` has the author's scope and label, too.
    rules : tuple of str
        The rules that made it, latest first: ``()`` for the user's own operations.
    source : Node or None
        The node that the latest rule worked on.
    serial : int
        Larger than that of every input.

    Examples
    --------
    >>> graph = mg.trace(lambda x: np.sum(x, axis=0))(mg.f64[3, 2])
    >>> (node,) = graph.outputs
    >>> node.prim, node.params, str(node.type)
    (<primitive sum>, {'axes': (0,)}, 'f64[2]')
    >>> node.inputs == graph.inputs
    True
    """

    __slots__ = ()

    def __new__(cls, prim: Primitive, inputs: tuple[Node, ...], params: dict[str, object],
                type: ArrayType | TupleType, like: Node | None = None) -> Node:
        self = object.__new__(_Fields)
        self.prim, self.inputs, self.params, self.type, self.serial = prim, inputs, params, type, next(_serial)
        if like is not None:
            self.loc, self.rules, self.source = like.loc, like.rules, like.source
        elif (source := (trace := thread.trace).source) is not None:
            own = (trace.rule,) if trace.rule else ()
            self.loc, self.source = source.loc, source
            self.rules = source.rules if source.rules[:1] == own else own + source.rules
        else:
            loc = user_location()
            self.loc = Place(*loc, trace.scope) if trace.scope and loc else loc
            self.rules, self.source = (trace.rule,) if trace.rule else (), None
        self.__class__ = cls
        return self  # type: ignore[return-value]  # of the class by now

    def __reduce__(self) -> NoReturn:
        raise GraphError(at_user_line(f"{self!r} is part of a program and has no pickle of its own: pickle a Graph"))

    # Of a node with one result; with several, ``node.types`` has the type of each.

    @property
    def shape(self) -> Shape:
        return self.type.shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> np.dtype:
        return self.type.dtype  # type: ignore[union-attr]

    @property
    def ndim(self) -> int:
        return len(self.type.shape)  # type: ignore[union-attr]

    @property
    def types(self) -> tuple[ArrayType, ...]:
        """The types of all results."""
        return self.type.parts if isinstance(self.type, TupleType) else (self.type,)

    @property
    def is_constant(self) -> bool:
        """Whether it is a constant array of one value, written as a number."""
        return constant_of(self) is not None

    @property
    def where(self) -> str:
        """The user's ``file.py:12``; where no line of theirs asked for the node, the transform that made it."""
        return format_location(self.loc) if self.loc else self.rules[-1] if self.rules else self.prim.name

    def __repr__(self) -> str:
        return f"<{self.prim.name}: {self.type} at {self.where}>"

    # Rules write arithmetic on nodes. Nothing broadcasts: a scalar becomes a constant of the
    # other operand's type, and two nodes must have equal types already.

    def _lift(self, other: Node | Number) -> Node:
        return other if isinstance(other, Node) else full(other, self.shape, self.dtype)

    def __add__(self, other: Node | Number) -> Node:
        return PRIMITIVES["add"](self, self._lift(other))

    def __sub__(self, other: Node | Number) -> Node:
        return PRIMITIVES["sub"](self, self._lift(other))

    def __mul__(self, other: Node | Number) -> Node:
        return PRIMITIVES["mul"](self, self._lift(other))

    def __truediv__(self, other: Node | Number) -> Node:
        return PRIMITIVES["div"](self, self._lift(other))

    def __radd__(self, other: Node | Number) -> Node:
        return PRIMITIVES["add"](self._lift(other), self)

    def __rsub__(self, other: Node | Number) -> Node:
        return PRIMITIVES["sub"](self._lift(other), self)

    def __rmul__(self, other: Node | Number) -> Node:
        return PRIMITIVES["mul"](self._lift(other), self)

    def __rtruediv__(self, other: Node | Number) -> Node:
        return PRIMITIVES["div"](self._lift(other), self)

    def __neg__(self) -> Node:
        return PRIMITIVES["neg"](self)


class Table(dict[K, V]):
    """A table that modules fill on import. An absent key and a look at the whole import the rest of them first."""

    complete: ClassVar[Callable[[], object]] = staticmethod(int)  # does nothing; `minigrad` enters the import

    def __missing__(self, key: K) -> V:
        return dict(self.items())[key]


def _of_all(name: str) -> Callable[..., object]:
    def method(self: Table[K, V], *args: object) -> object:
        Table.complete()
        return getattr(dict, name)(self, *args)

    return method


for _name in ("__contains__", "__iter__", "__len__", "get", "items", "keys", "values"):
    setattr(Table, _name, _of_all(_name))

PRIMITIVES: Table[str, Primitive] = Table()  # filled by primitive.py


def moment() -> int:
    """Return a serial number: nodes made before have smaller ones, nodes made later have larger ones."""
    return next(_serial)


def note_read() -> None:
    """Record that nodes which read by indices may come into the current trace."""
    thread.trace.read = moment()


def full(value: Number, shape: Shape, dtype: np.dtype) -> Node:
    """Return the constant array of one value."""
    return PRIMITIVES["full"](value=np.dtype(dtype).type(value).item(), shape=tuple(shape), dtype=dtype)


def constant_of(node: Node) -> Number | None:
    """Return the one value of a constant array; None for every other node."""
    value: Number | None = node.params["value"] if node.prim.name == "full" else None
    return value


def zeros_like(node: Node) -> Node:
    """Return zeros of the node's type."""
    return full(0, node.shape, node.dtype)


def reachable(outputs: Iterable[Node], since: int = -1, end: Iterable[Node] = ()) -> list[Node]:
    """Return all nodes that `outputs` depend on, in topological order.

    Nodes whose serial is below `since` are left out: they cannot depend on a node made later. So are those in `end`,
    and the nodes that only they depend on.
    """
    seen = set(end)
    new = {n for n in outputs if n.serial >= since} - seen
    while new:
        seen |= new
        new = {i for n in new for i in n.inputs if i.serial >= since} - seen
    return sorted(seen.difference(end) if end else seen, key=_by_serial)


class Graph(Frozen):
    """A traced program: inputs, outputs, and the nodes between in topological order.

    A graph is a function of values (``graph(w, x)``), and each transform of it (`vmap`, `mean`, `grad`, ...) is a graph
    again: to be printed, drawn, written as JSON, and called.

    Attributes
    ----------
    inputs, outputs : tuple of Node
    names : tuple of str
        One per input: the path to its leaf in the function's arguments; or a function that is called for them.
    out_names : tuple of str
    in_tree, out_tree : optree.PyTreeSpec or None
        The pytrees whose leaves are inputs and outputs: those of ``(args, kwargs)``, and of the result. None:
        each input is an argument, each output a result.
    name : str
    notes : tuple of str
        Remarks of the graph's maker for its reader.

    Examples
    --------
    >>> import minigrad as mg, numpy as np
    >>> g = mg.trace(lambda w, x: np.sum(w * x))(mg.f64[3], mg.f64[3])
    >>> gradient = g.vmap(in_axes=(None, 0)).mean().grad("w")
    >>> print(str(gradient).splitlines()[0])
    lambda_(w: f64[3], x: f64[B, 3]) -> f64[3]
    >>> gradient(np.ones(3), np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    array([2., 3., 4.])
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    in_tree: optree.PyTreeSpec | None
    out_tree: optree.PyTreeSpec | None
    name: str
    notes: tuple[str, ...]
    _names: tuple[str, ...] | Callable[[], tuple[str, ...]]
    _out_names: tuple[str, ...]

    def __init__(self, inputs: tuple[Node, ...], outputs: tuple[Node, ...],
                 names: tuple[str, ...] | Callable[[], tuple[str, ...]] = (), out_names: tuple[str, ...] = (),
                 in_tree: optree.PyTreeSpec | None = None,
                 out_tree: optree.PyTreeSpec | None = None, name: str = "graph", notes: tuple[str, ...] = ()):
        vars(self).update(inputs=inputs, outputs=outputs, _names=names, _out_names=out_names, in_tree=in_tree,
                          out_tree=out_tree, name=name, notes=notes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        names = self._names() if callable(self._names) else self._names
        return names or tuple(f"in{i}" for i in range(len(self.inputs)))

    @cached_property
    def out_names(self) -> tuple[str, ...]:
        if self._out_names:
            return self._out_names
        if self.out_tree is not None and self.out_tree.num_leaves == len(self.outputs):
            return tuple("out" + "".join(f"[{p!r}]" for p in path) for path in optree.treespec_paths(self.out_tree))
        return tuple(f"out{i}" for i in range(len(self.outputs))) if len(self.outputs) != 1 else ("out",)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The inputs, and all nodes that the outputs depend on, in topological order."""
        return tuple(reachable((*self.inputs, *self.outputs)))

    @cached_property
    def prims(self) -> frozenset[Primitive]:
        """The primitives of its nodes: passes skip a graph without those that they look for."""
        return frozenset([n.prim for n in self.nodes])

    @cached_property
    def holders(self) -> tuple[Node, ...]:
        """The nodes that hold graphs, such as the step of a scan."""
        return tuple([n for n in self.nodes if type(n.type) is TupleType and held_graphs(n)])

    @cached_property
    def symbols(self) -> list[Symbol]:
        """The symbolic sizes of the inputs, in the order in which they were made."""
        return sorted(set().union(*(symbols(n.shape) for n in self.inputs)), key=lambda s: s.uid)

    def replace(self, **changes: Any) -> Graph:
        """Return the graph with some fields changed."""
        fields = {"inputs": self.inputs, "outputs": self.outputs, "names": self._names, "out_names": self._out_names,
                  "in_tree": self.in_tree, "out_tree": self.out_tree, "name": self.name, "notes": self.notes}
        new = Graph(**(fields | changes))
        if new.inputs is self.inputs and new.outputs is self.outputs:
            vars(new).update({name: vars(self)[name] for name in ("nodes", "prims", "holders") if name in vars(self)})
        return new

    def count(self, *prims: str) -> int:
        """Return the number of nodes, constants among them, of the named primitives (of all, where none is named)."""
        return sum(n.prim.name in prims for n in self.nodes) if prims else len(self.nodes) - len(set(self.inputs))

    # -- values, and other graphs ------------------------------------------------------------------

    @boundary
    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        """Return the value of the graph, node by node (`minigrad.compile` makes fast programs); in a trace, trace it.

        Raises
        ------
        TraceError
            If the arguments have another structure than those that were traced.
        ShapeError, DtypeError
            If an argument has another type; a symbolic size is any number, the same wherever it occurs.
        """
        return CALLS["call"](self, args, kwargs)

    @boundary
    def vmap(self, in_axes: InAxes = 0, out_axes: InAxes = 0, *, size: int | Dim | None = None) -> Graph:
        """Return the graph of a batch: every node that depends on an example has one more axis.

        Parameters
        ----------
        in_axes : int, None, tuple, or dict
            The new axis of each argument, along which the examples lie; None where they share the argument. A tuple has
            one entry per positional argument, a pytree prefix of it, as in `minigrad.vmap`. A dict has entries by name
            (``{"x": 0, "params.W": 1}``); the examples share the rest.
        out_axes : int, None, or a pytree of them
        size : int or Dim, optional
            The number of examples; any number, without it.

        Raises
        ------
        BatchError
            If `in_axes` does not fit the arguments, names none, or maps nothing.
        """
        return FORMS["vmap"](self, in_axes, out_axes, size)

    @boundary
    def mean(self, has_aux: bool = False) -> Graph:
        """Return the graph of the mean of each result over its axis 0; with `has_aux`, of ``(result, aux)``'s first.

        Raises
        ------
        BatchError
            If a result has no axis, or is not floating.
        """
        return FORMS["mean"](self, has_aux)

    @boundary
    def sum(self, has_aux: bool = False) -> Graph:
        """Return the graph of the sum of each result over its axis 0; see `mean`."""
        return FORMS["sum"](self, has_aux)

    @boundary
    def unroll(self, n: int, in_axes: InAxes = 0) -> Graph:
        """Return the literal mini-batch graph: `n` copies of this graph, and the mean of their results.

        `in_axes` and errors are those of `vmap`.
        """
        return FORMS["unroll"](self, n, in_axes)

    @boundary
    def grad(self, wrt: str | int | Sequence[str | int] = 0, has_aux: bool = False) -> Graph:
        """Return the graph of the gradient of its one floating result, or of ``(gradient, aux)`` with `has_aux`.

        Parameters
        ----------
        wrt : str, int, or a sequence of them
            The arguments to differentiate with respect to: names or positions. ``params.W`` (or ``params['W']``) is a
            part of the argument ``params``. The gradient has the pytree of the argument; for a sequence, it is a tuple.
        has_aux : bool

        Raises
        ------
        GradError
            If the graph lacks the argument, the argument is not floating, or the result is not a floating scalar.
        """
        return FORMS["grad"](self, wrt, has_aux)

    @boundary
    def value_and_grad(self, wrt: str | int | Sequence[str | int] = 0, has_aux: bool = False) -> Graph:
        """Return the graph of ``(value, gradient)``, or of ``((value, aux), gradient)`` with `has_aux`; see `grad`."""
        return FORMS["value_and_grad"](self, wrt, has_aux)

    @boundary
    def jvp(self, wrt: str | int | Sequence[str | int] | None = None) -> Graph:
        """Return the graph of ``(result, tangent)``, which takes a tangent of each argument in `wrt` (None: of all).

        The tangents are further positional arguments, called ``dx`` where the argument is ``x``.
        """
        return FORMS["jvp"](self, wrt)

    @boundary
    def vjp(self, wrt: str | int | Sequence[str | int] | None = None) -> Graph:
        """Return the graph of the cotangents of the arguments in `wrt` (None: of all), for a cotangent of the result.

        That is one further positional argument, called ``dout``, in the pytree of the result.
        """
        return FORMS["vjp"](self, wrt)

    @boundary
    def optimize(self, without: Sequence[str] = ()) -> Graph:
        """Return the graph that `minigrad.compile` gives to a backend; `without` names passes to leave out."""
        return FORMS["optimize"](self, without)

    def check(self) -> Graph:
        """Raise `GraphError` unless the graph is well formed; return the graph.

        Every node's type must agree with its primitive's type rule, every input must come before
        the node, and every free input must be one of the graph's.
        """
        if len(self.names) != len(self.inputs) or len(self.out_names) != len(self.outputs):
            raise GraphError(f"{self.name}: {len(self.inputs)} inputs, {len(self.names)} names; "
                             f"{len(self.outputs)} outputs, {len(self.out_names)} names")
        mine = set(self.inputs)
        if len(mine) != len(self.inputs):
            raise GraphError(f"{self.name}: one node is two of its inputs")
        for node in self.nodes:
            if node.prim.name == "input":
                if node not in mine:
                    raise GraphError(f"{self.name}: depends on a value of another trace ({node!r})")
                continue
            if any(i.serial >= node.serial for i in node.inputs):
                raise GraphError(f"{self.name}: {node!r} stands before one of its inputs")
            expected = node.prim.type(*(i.type for i in node.inputs), **node.params)
            if expected != node.type:
                raise GraphError(f"{self.name}: {node!r} says {node.type}, its rule says {expected}")
            for _, held in held_graphs(node):
                held.check()
        return self

    # -- text, pictures, JSON --------------------------------------------------------------------

    def __str__(self) -> str:
        return TEXTS["__str__"](self)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {self.count()} nodes, {len(self.outputs)} outputs>"

    def role(self, node: Node) -> str:
        """Return what `node` is: ``gradient``, ``batched``, ``combined``, ``shared`` or ``per-example``.

        A combined node, such as the mean over a batch, depends on batched ones and has no batch axis.

        Raises
        ------
        KeyError
            If the graph has no such node.
        """
        return self._roles[node]

    @cached_property
    def _roles(self) -> Mapping[Node, str]:
        roles: Mapping[Node, str] = CALLS["roles"](self)
        return roles

    def to_svg(self) -> str:
        """Return a drawing of the graph as SVG text."""
        return TEXTS["to_svg"](self)

    _repr_svg_ = to_svg

    def _repr_html_(self) -> str:
        return TEXTS["_repr_html_"](self)

    @boundary
    def show(self, path: str | None = None, values: Sequence[PyTree] | None = None) -> str:
        """Draw the graph into a file and return its path.

        Parameters
        ----------
        path : str, optional
            Where to write: ``.svg``, ``.html``, and with CairoSVG or rsvg-convert ``.png`` and ``.pdf``. Without
            it an SVG file goes to the folder for temporary files and is opened in the browser where there is one.
        values : sequence of arrays or pytrees, optional
            The values of the inputs; the drawing then shows the value of every node, as `with_values` does.
        """
        return TEXTS["show"](self, path, values)

    @boundary
    def with_values(self, *values: PyTree) -> Graph:
        """Return this graph with the value of each node, which drawings and notebooks then show.

        The values are kept as short texts, such as ``= 0.5`` or ``in -1 … 2``. A transform of the graph has none.

        Parameters
        ----------
        *values : arrays or pytrees of them
            The values of the inputs, in order. A symbolic size is the number that they have.

        Raises
        ------
        TraceError, ShapeError
            If the values do not fit the inputs.

        Examples
        --------
        >>> import minigrad as mg, numpy as np
        >>> graph = mg.trace(lambda w, x: np.sum(w * x))(mg.f64[2], mg.f64[2])
        >>> "f64[] = 11" in graph.with_values(np.array([1.0, 2.0]), np.array([3.0, 4.0])).to_svg()
        True
        """
        return FORMS["with_values"](self, values)

    @cached_property
    def value_words(self) -> Mapping[Node, str]:
        return {}

    @boundary
    def explore(self, *values: PyTree) -> minigrad.explorer.Exploration:
        """Return a page with the graph, its gradient and its passes, and the values of all nodes.

        Parameters
        ----------
        *values : arrays or pytrees of them
            The values of the inputs, in order. A symbolic size is the number that they have.

        Returns
        -------
        Exploration
            A notebook shows it; ``.save("page.html")`` and ``.open()`` elsewhere. See `minigrad.explore`.
        """
        page: minigrad.explorer.Exploration = CALLS["explore"](self, values)
        return page

    @boundary
    def source(self, backend: str | None = None) -> str:
        """Return the program that `backend` would run for this graph, as text; by default as calls of NumPy."""
        try:
            return PRINTERS[backend or next(iter(PRINTERS))](self)
        except KeyError:
            raise GraphError(f"no backend {backend!r} prints a graph; these do: {', '.join(sorted(PRINTERS))}. "
                             "Compiled functions show their programs: mg.compile(f).source and .llvm") from None

    def to_json(self) -> str:
        """Return the graph as JSON text; `from_json` reads it back exactly."""
        return TEXTS["to_json"](self)

    def __reduce__(self) -> tuple[object, ...]:
        reduced: tuple[object, ...] = CALLS["__reduce__"](self)
        return reduced

    @staticmethod
    @boundary
    def from_json(text: str) -> Graph:
        """Read a graph from JSON text. Nothing in the text is executed.

        Raises
        ------
        GraphError
            If the text is not JSON, or not the JSON of a well-formed graph.
        """
        return FORMS["from_json"](text)


def held_graphs(node: Node) -> list[tuple[str, Graph]]:
    """Return the graphs among the parameters of a node, which then has a tuple of results, each with its name."""
    return [(key, v) for key, value in node.params.items()
            for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Graph)]


def has_effect(node: Node) -> bool:
    """Return whether a node is an effect, or holds a graph that has effects."""
    return node.prim.effect or (type(node.type) is TupleType and any(
        has_effect(n) for _, graph in held_graphs(node) for n in graph.nodes))


PRINTERS: dict[str, Callable[[Graph], str]] = {}  # filled by the backends
# Filled by the modules above: the transforms and passes of graphs, the texts and drawings of them, and their calls.
FORMS: Table[str, Callable[..., Graph]] = Table()
TEXTS: Table[str, Callable[..., str]] = Table()
CALLS: Table[str, Callable[..., Any]] = Table()
