"""`compile`: functions as programs, each traced and optimized once for all batch sizes."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast, overload

import numpy as np
import optree

from . import backends, interpreters, passes
from .argument_sizes import argument_sizes
from .backends.subgraph import budgets_in
from .budgets import Budget
from .collector import uncollected
from .debugging import debugging
from .errors import BatchError, MinigradError, ShapeError, at_user_line
from .graph import Graph, PyTree
from .immutable import Frozen, Immutable, Record, cached_property
from .locks import Lock, importing
from .passes.record import Stage, Stages
from .symbolic import Dim, Symbol
from .tracebacks import boundary, for_user
from .tracing import tracing
from .transforms.array_namespace import namespace, on_device, own
from .transforms.fixed_numbers import Arguments, FixedNumbers, Key, kind, kind_of_leaf, static_key
from .transforms.graph_forms import Part
from .transforms.lazy_pickle import Remembered
from .transforms.trace import function_name

if TYPE_CHECKING:
    from .batch_sizes import Rows

MAXSIZE = 128  # programs that a compiled function keeps
Bound: TypeAlias = "tuple[Entry, dict[Symbol, int], list[int] | None]"  # program, sizes, and the leaves that it takes
Kinds: TypeAlias = tuple[str, optree.PyTreeSpec, *tuple[object, ...]]  # backend, structure, and kind of each argument
_REMEMBERED = 1024  # argument shapes whose sizes are kept


class Entry(Frozen, Record):
    """A traced program for one structure, one set of dtypes and static shapes, and every batch size.

    It pickles as its graph; an unpickled entry builds its program on first use.
    """

    graph: Graph
    numbers: tuple[bool, ...]  # whether each output is a Python number outside of a trace
    host_inputs: tuple[int, ...]  # the inputs that are Python numbers
    backend: str
    without: tuple[str, ...]
    options: dict[str, object]

    def __reduce__(self) -> tuple[object, ...]:
        return Entry, (self.graph, self.numbers, self.host_inputs, self.backend, self.without, self.options)

    def build(self) -> Entry:
        """Build the program on the first call, and return the entry."""
        if "_built" not in vars(self):  # not a cached property: Python 3.11 holds a lock of the class meanwhile
            with uncollected():
                vars(self)["_built"] = self._build()
        return self

    def _build(self) -> tuple[backends.Executable, tuple[Stage, ...], Graph]:
        graph = self.graph
        optimized, stages = passes.run(graph, self.without)
        program = backends.build(optimized, self.backend, host_inputs=self.host_inputs, host_outputs=self.scalars,
                                 **self.options)
        first = Stage("trace", graph.name, graph, "; ".join(graph.notes) or f"{graph.count()} nodes" + (
            f" for every {', '.join(map(str, graph.symbols))}" if graph.symbols else ""))
        return program, (first, *stages), optimized

    @cached_property
    def program(self) -> backends.Executable:
        program: backends.Executable = vars(self.build())["_built"][0]
        return program

    @property
    def stages(self) -> Stages:
        """The steps to the program, the graph's before the backend's: those of a program of two tiers change."""
        steps: tuple[Stage, ...] = vars(self.build())["_built"][1]
        return Stages((*steps, *self.program.stages))

    @cached_property
    def optimized(self) -> Graph:
        """The graph that the program runs."""
        optimized: Graph = vars(self.build())["_built"][2]
        return optimized

    @cached_property
    def on_device(self) -> bool:
        """Whether the program takes arrays on a device."""
        return backends.get(self.backend).on_device

    @cached_property
    def out_tree(self) -> optree.PyTreeSpec:
        assert self.graph.out_tree is not None
        return self.graph.out_tree

    @cached_property
    def points(self) -> tuple[int, ...]:
        """The outputs without axes."""
        return tuple(i for i, n in enumerate(self.graph.outputs) if not n.ndim)

    @cached_property
    def scalars(self) -> frozenset[int]:
        """The outputs that are Python numbers outside of a trace."""
        return frozenset(i for i in self.points if self.numbers[i])

    def sizes(self, shapes: list[tuple[int, ...]]) -> dict[Symbol, int]:
        """Return the numbers of the symbolic sizes, or raise `ShapeError` for other shapes."""
        sizes = argument_sizes(self.graph, shapes)
        for n in self.differences:
            if n.value(sizes) < 0:
                raise ValueError(f"{self.graph.name}: the examples have fewer rows than a slice of them leaves out "
                                 f"({n} is {n.value(sizes)})")
        return {**sizes, **self._budgets(sizes)}

    @cached_property
    def budgets(self) -> dict[Budget, int]:
        """The budgets of memory, and the loops that share each of them."""
        return budgets_in(self.graph) and budgets_in(self.optimized)

    def sizes_of_examples(self, tree: optree.PyTreeSpec, number: int, rows: Rows) -> dict[Symbol, int]:
        """Return the sizes of a call from its number of examples and of rows, or raise `MinigradError`."""
        with importing:  # and the modules of ragged batches with it, which first gradients do not need
            from .batch_sizes import largest_passes, sizes_of_examples

        sizes, lengths = sizes_of_examples(self.graph, self.optimized, tree, number, rows)
        return {**sizes, **self._budgets(sizes), **largest_passes(self.optimized, lengths, sizes)}

    def _budgets(self, sizes: dict[Symbol, int]) -> dict[Symbol, int]:
        """Return the bytes that the passes of one loop may take of each budget; the program keeps to the least one."""
        if not self.budgets:
            return {}
        limit, loops = min(b.nbytes for b in self.budgets), sum(self.budgets.values())

        def need(left: int) -> int:
            return self.program.memory({**sizes, **dict.fromkeys(self.budgets, left)})

        left = (limit - need(0)) // loops
        if left > 0:  # part of a pass's memory may lie where the program has free memory meanwhile
            more = left + (limit - need(left)) // loops
            if more > left and need(more) <= limit:
                left = more
        return dict.fromkeys(self.budgets, left)

    @cached_property
    def differences(self) -> tuple[Dim, ...]:
        """The sizes that may be negative, of those that arguments give."""
        given = set(self.graph.symbols)
        return () if not given else tuple({d: None for n in self.graph.nodes for d in getattr(n.type, "shape", ())
                      if isinstance(d, Dim) and d.symbols <= given and any(factor < 0 for _, factor in d.terms)})


class Compiled(Immutable):
    """A compiled function; made by `compile`.

    Attributes
    ----------
    entries : list of Entry
        The programs, one per structure, dtypes and static shapes, from the least to the most recently used.
    graph : Graph
        The traced graph of the latest entry.
    source : str
        Its program, as NumPy code.
    llvm : str
        Its fused loops as LLVM IR; empty where they run on NumPy.
    stages : tuple of Stage
        The steps from graph to program; ``print`` each, or show them in a notebook.
    """

    def __init__(self, f: Callable[..., PyTree], backend: str = backends.AUTO, without: Collection[str] = (),
                 maxsize: int | None = MAXSIZE, static_argnums: Part | Collection[Part] = (), **options: Any):
        functools.update_wrapper(self, f)
        passes.check_names(without)
        if maxsize is not None and (isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1):
            raise MinigradError(at_user_line(f"maxsize must be an int of at least 1, or None for no bound, got "
                                             f"{maxsize!r}"))
        self._f = f
        self._maxsize = maxsize
        self._without = tuple(without)
        if strange := options.keys() - backends.options(backend):
            others = [f"{b!r} has {', '.join(sorted(own))}" for b in backends.names() if (own := backends.options(b))]
            hint = (". static_argnums holds the positions or the names of static arguments"
                    if any(name.startswith("static") for name in strange) else "")
            raise MinigradError(at_user_line(f"backend {backend!r} has no option {', '.join(sorted(strange))}; "
                                             f"{', '.join(others)}{hint}"))
        self._backend = backends.chosen(backend)
        self._follows = backend == backends.AUTO
        self._options = options
        self._static_argnums = static_argnums
        self._fixed = FixedNumbers(f, static_argnums)
        self._entries: dict[Kinds, list[Entry]] = {}
        self._used: dict[Entry, Kinds] = {}  # to the entry's key in `_entries`, the latest used last
        self._bound: dict[Key, Bound] = {}
        self._integers: dict[Key, list[int]] = {}  # the leaves whose numbers extend a key of `_bound`
        self._latest: Entry | None = None
        self._lock = Lock()

    def like(self, f: Callable[..., PyTree]) -> Compiled:
        """Return another function compiled with the same options."""
        backend = "auto" if self._follows else self._backend
        return Compiled(f, backend, self._without, self._maxsize, self._static_argnums, **self._options)

    def __get__(self, instance: object, owner: type | None = None) -> Compiled | types.MethodType:
        return self if instance is None else types.MethodType(self, instance)

    # -- copies ----------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the graphs, so that another process needs no source of the function."""
        f = Remembered.of(self._f, self)
        if not self._entries and f.origin is None:
            raise MinigradError(at_user_line(
                f"pickle of {self!r}: it has no program yet, and its function cannot be pickled. Call it once, or "
                "build(...) it, first: then its graph is what is pickled"))
        with self._lock:
            entries = list(self._used.items())
        backend = backends.AUTO if self._follows else self._backend
        return _unpickled, (f, backend, self._without, self._maxsize, self._static_argnums, self._options, entries,
                            dict(self._fixed.known))

    def __repr__(self) -> str:
        return f"<compiled {function_name(self._f)}: {len(self.entries)} programs, {self._backend}>"

    @property
    def entries(self) -> list[Entry]:
        return list(self._used)

    def _backend_for(self, leaves: Collection[object]) -> str:
        """Return the backend for the arguments: ``auto`` follows the arrays."""
        return backends.on_device() if self._follows and on_device(leaves) else self._backend

    def _last(self) -> Entry:
        if self._latest is None:
            raise MinigradError(at_user_line(f"{function_name(self._f)} has not been called yet: call it, or "
                                             "build(...) it, first"))
        return self._latest

    @property
    def graph(self) -> Graph:
        return self._last().graph

    @property
    def stages(self) -> Stages:
        return self._last().stages

    @property
    def source(self) -> str:
        return self._last().program.source

    @property
    def llvm(self) -> str:
        return getattr(self._last().program, "llvm", "")

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        try:
            if tracing():
                return self._f(*args, **kwargs)
            arguments: PyTree = (args, kwargs)
            leaves, tree = optree.tree_flatten(arguments)
            key = (tree, *[(x.shape, x.dtype) if type(x) is np.ndarray else kind_of_leaf(x) for x in leaves])
            bound = self._bound.get(key)
            if bound is None:
                bound = self._bound_for(args, kwargs, leaves, key)
            entry, sizes, inputs = bound
            if inputs is not None:
                leaves = [leaves[i] for i in inputs]
            if entry.on_device:
                return self._on_device(entry, sizes, leaves)
            arrays = [x if type(x) is np.ndarray else np.asarray(x, n.dtype)
                      for x, n in zip(leaves, entry.graph.inputs, strict=True)]
            if debugging():
                values = own(interpreters.evaluate(entry.graph, arrays, sizes), arrays)
            else:
                values = entry.program(arrays, sizes)
            for i in entry.points:  # as where the function runs on its own: NumPy's scalars, or Python's
                values[i] = values[i].item() if i in entry.scalars else values[i][()]
            return optree.tree_unflatten(entry.out_tree, values[:entry.out_tree.num_leaves])
        except Exception as error:
            raise for_user(error)  # noqa: B904

    def _on_device(self, entry: Entry, sizes: dict[Symbol, int], leaves: list[object]) -> PyTree:
        """Run on the GPU; results stay there, without waiting, except numbers computed from Python numbers."""
        if debugging():
            own = backends.get(entry.backend)
            arrays = [own.asarray(x, n.dtype) for x, n in zip(leaves, entry.graph.inputs, strict=True)]
            values = interpreters.evaluate(entry.graph, arrays, sizes, namespace(arrays))
        else:
            values = entry.program(leaves, sizes)
        return optree.tree_unflatten(entry.out_tree, values[:entry.out_tree.num_leaves])

    @boundary
    def workspace_bytes(self, *args: PyTree, **kwargs: PyTree) -> int:
        """Return the memory of a call with such arguments, in bytes, without them and the results."""
        entry, sizes = self._for(args, kwargs)
        return entry.program.workspace_bytes(sizes)

    @boundary
    def memory(self, *args: PyTree, **kwargs: PyTree) -> int:
        """Return the memory of a call at its peak, in bytes, without the arguments.

        That is the workspace, the results, and what steps allocate; it is exact for all planned memory, and leaves out
        temporaries within functions of NumPy and SciPy.

        Passes of a `microbatch` over a ragged batch are as long as the rows of their examples. Where the arguments do
        not tell the rows of each example, the longest pass counts as if its examples had all of them. A program for
        batches of ever new sizes may keep an eighth more, for batches to come. Machine code with steps of Python, such
        as `np.linalg.solve` of large matrices, keeps the memory of up to 8 sizes of batches and passes: one counts.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function, or types such as ``mg.f32[784]`` for them. Or one int: a number of examples, for
            the latest program; for ragged batches with ``rows={axis: rows}``, the rows of all examples along each
            ragged axis (an int), or of each example (ints).

        Raises
        ------
        MinigradError
            If these numbers do not determine the sizes: there are two batches, or an array has an element per pair of
            rows of an example, and `rows` has sums alone.
        BatchError
            If one example exceeds the memory of a `microbatch` over examples of equal size, or `rows` names no ragged
            axis of the program, or is not a number of rows.

        Examples
        --------
        >>> step = mg.compile(mg.grad(mg.mean_loss(lambda w, x: np.tanh(w @ x) @ w[0], in_axes=(None, 0))))
        >>> w, X = np.ones((30, 30)), np.ones((1000, 30))
        >>> step.memory(w, X) == step.memory(1000) < step.memory(10**6)
        True

        >>> word = mg.axis("word")
        >>> f = mg.compile(mg.mean_loss(lambda w, x: np.sum(np.tanh(x @ w)), in_axes=(None, 0)))
        >>> sentences = mg.batch([np.ones((n, 30)) for n in (5, 2, 3)], mg.f64[word, 30])
        >>> f.memory(w, sentences) == f.memory(3, rows={word: 10}) < f.memory(3, rows={word: 10**6})
        True
        """
        if len(args) == 1 and type(args[0]) is int and self._counts_examples(kwargs):
            entry = self._last()
            sizes = entry.sizes_of_examples(self._used[entry][1], args[0], cast("Rows", kwargs.get("rows", {})))
        else:
            entry, sizes = self._for(args, kwargs)
        return entry.program.memory(sizes)

    def _counts_examples(self, kwargs: Mapping[str, object]) -> bool:
        """Return whether an int alone, with such keywords, is a number of examples."""
        with importing:
            from .batch_sizes import has_rows

        if not kwargs:
            return self._latest is None or bool(self.graph.symbols)
        return kwargs.keys() == {"rows"} and self._latest is not None and (
            has_rows(self.graph) or isinstance(kwargs["rows"], Mapping))

    def _for(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree]) -> tuple[Entry, dict[Symbol, int]]:
        """Return the program for arguments, and the sizes, those of its largest passes included."""
        with importing:
            from .batch_sizes import largest_passes

        arguments: PyTree = (args, kwargs)
        leaves, tree = optree.tree_flatten(arguments)
        entry, sizes, inputs = self._bound_for(args, kwargs, leaves, (tree, *map(kind_of_leaf, leaves)))
        own = leaves if inputs is None else [leaves[i] for i in inputs]
        known = {i: x for i, x in enumerate(own) if isinstance(x, np.ndarray)}
        return entry, {**sizes, **largest_passes(entry.optimized, known, sizes)}

    @boundary
    def build(self, *args: PyTree, **kwargs: PyTree) -> Entry:
        """Return the program for such arguments without running it; types such as ``mg.f32[784]`` stand for arrays."""
        return self._trace(args, kwargs, self._fixed.flatten(args, kwargs))[0]

    def _bound_for(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], leaves: list[object], key: Key) -> Bound:
        """Return the program for arguments whose `key` without numbers has none: it depends on these, or is new."""
        if self._fixed.declared:
            own = self._fixed.leaves(args, kwargs)
            key = (key[0], *(static_key(x) if i in own else k
                             for i, (x, k) in enumerate(zip(leaves, key[1:], strict=True))))
        bound = self._bound.get((*key, *(leaves[i] for i in self._integers.get(key, ()))))
        return self._find(args, kwargs, leaves, key) if bound is None else bound

    def _find(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], leaves: list[object], key: Key) -> Bound:
        """Return the program for the arguments' shapes, traced now if it does not exist."""
        with self._lock:
            arguments = self._fixed.flatten(args, kwargs)
            shapes = [cast("tuple[int, ...]", t.shape) for t in arguments.flat.types]
            for entry in self._entries.get(kinds := self._kinds(arguments), ()):
                try:
                    sizes = entry.sizes(shapes)
                except ShapeError:
                    continue  # another static shape: another program
                break
            else:
                entry, arguments = self._trace(args, kwargs, arguments)
                kinds = self._used[entry]
                sizes = entry.sizes([cast("tuple[int, ...]", t.shape) for t in arguments.flat.types])
            symbol = next((s for s, n in sizes.items() if n == 0 and not s.rows), None)
            if symbol is not None:
                names = entry.graph.names
                which = [names[i] for i, n in enumerate(entry.graph.inputs) if any(
                    getattr(d, "symbol", None) is symbol for d in n.shape)]
                raise BatchError(at_user_line(f"{function_name(self._f)}: an empty batch: {', '.join(which)} has no "
                                              "example"))
            if len(self._bound) >= _REMEMBERED:
                self._bound.clear()
                self._integers.clear()
            self._use(entry.build(), kinds)
            bound = entry, sizes, arguments.inputs if len(arguments.inputs) < len(leaves) else None
            if arguments.integers:
                self._integers[key] = arguments.integers
                key = (*key, *(leaves[i] for i in arguments.integers))
            self._bound[key] = bound
            return bound

    def _use(self, entry: Entry, kinds: Kinds) -> None:
        """Make an entry the latest one, and drop the least recently used one beyond `maxsize`.

        Calls of known shapes do not pass here, for speed. So each new entry clears the known shapes once `maxsize`
        entries exist: the programs in use then pass here again before the next drop. A thread that runs a dropped
        program holds it meanwhile.
        """
        new = self._used.pop(entry, None) is None
        self._used[entry] = kinds
        self._latest = entry
        if not new or self._maxsize is None or len(self._used) < self._maxsize:
            return
        self._bound.clear()
        if len(self._used) > self._maxsize:
            oldest = next(iter(self._used))
            group = self._entries[kinds := self._used.pop(oldest)]
            group.remove(oldest)
            if not group:
                del self._entries[kinds]

    def _kinds(self, arguments: Arguments) -> Kinds:
        """Return the key of the programs for arguments of these kinds."""
        flat = arguments.flat
        return (self._backend_for(flat.leaves), flat.tree, *map(kind, flat.leaves))

    def _trace(self, args: tuple[PyTree, ...], kwargs: dict[str, PyTree], arguments: Arguments
               ) -> tuple[Entry, Arguments]:
        with self._lock, uncollected():
            backends.start(backend := self._backend_for(arguments.flat.leaves), **self._options)
            traced, arguments = self._fixed.trace(args, kwargs, arguments)
            kinds = self._kinds(arguments)
            host_inputs = tuple(i for i, kind in enumerate(kinds[2:]) if isinstance(kind, type))
            entry = Entry(traced.graph, traced.numbers, host_inputs, backend, self._without, self._options)
            return self._enter(entry.build(), kinds), arguments

    def _enter(self, entry: Entry, kinds: Kinds) -> Entry:
        self._entries.setdefault(kinds, []).append(entry)
        self._use(entry, kinds)
        return entry


def _unpickled(f: Callable[..., PyTree], backend: str, without: tuple[str, ...], maxsize: int | None,
               static_argnums: Part | Collection[Part], options: dict[str, object], entries: list[tuple[Entry, Kinds]],
               fixed: dict[Key, tuple[int, ...]]) -> Compiled:
    """Return an unpickled compiled function, for the backend of this process."""
    compiled = Compiled(f, backend, without, maxsize, static_argnums, **options)
    compiled._fixed.known.update(fixed)
    for entry, (_, tree, *kinds) in entries:
        here = entry.backend if entry.on_device else compiled._backend
        own = Entry(entry.graph, entry.numbers, entry.host_inputs, here, entry.without, entry.options)
        compiled._enter(own, (here, tree, *kinds))
    return compiled


@overload
def compile(f: Callable[..., PyTree], backend: str = ..., without: Collection[str] = ..., maxsize: int | None = ...,
            static_argnums: Part | Collection[Part] = ..., **options: object) -> Compiled: ...
@overload
def compile(f: None = None, backend: str = ..., without: Collection[str] = ..., maxsize: int | None = ...,
            static_argnums: Part | Collection[Part] = ..., **options: object
            ) -> Callable[[Callable[..., PyTree]], Compiled]: ...


@boundary
def compile(f: Callable[..., PyTree] | None = None, backend: str = backends.AUTO, without: Collection[str] = (),
            maxsize: int | None = MAXSIZE, static_argnums: Part | Collection[Part] = (), **options: Any
            ) -> Compiled | Callable[[Callable[..., PyTree]], Compiled]:
    """Compile a function: one program for all sizes of the axes that it maps.

    Those are the axes of a `vmap` or `mean_loss` within the function. There is one program per structure, dtypes and
    other sizes. Tracing calls `f` with the sizes of the arguments, to find the axes, and again with symbols for their
    sizes; once more where the code needs the number of one.

    Parameters
    ----------
    f : callable
        A function of pytrees of arrays, made of NumPy functions and minigrad's transforms. Without it, the result is a
        decorator: ``@mg.compile(backend="native")``.
    backend : {"auto", "numpy", "native", "cupy"} or str
        The program runs on NumPy, as machine code by LLVM (needs ``pip install minigrad[native]``), or on a GPU
        (``minigrad[cuda]``). ``auto`` follows the arrays: on a GPU, ``cupy``; else ``native`` if it is installed.
        The environment variable ``MINIGRAD_BACKEND`` overrides that.
    without : collection of str
        Names of passes to leave out, such as ``"factorize"``.
    maxsize : int, optional
        The number of programs to keep (128), one per structure, dtypes and static shapes; beyond it, the least
        recently used one is dropped, and traced again on its next use. None keeps all.
    static_argnums : int, str, or collection of them
        Positions or names of arguments whose values, numbers included, are part of the program: there is one for each.
        Bools, strings, functions and other values that are no arrays are so anyway, and an integer is where the code
        needs its number, as ``range(n)`` does (the first of ``.stages`` says where).
    **options
        Of the backend. ``cupy`` has ``precision="highest"`` or ``"tf32"``: how products of float32 matrices round.
        ``native`` has ``tier="final"``, ``"quick"`` or ``"early"``. ``final``, the default, optimizes machine code
        before the first answer, and equal calls give equal bits. With ``quick`` the first answers of small work come
        from machine code that is not optimized yet, and later ones from code that a thread in the background has
        optimized: the bits of results are those of ``final``, but for the signs of NaN.
        With ``early`` the NumPy program answers at once, and a call that comes after the compilation, in the
        background, takes the machine code: the last bits of results then change once, at a call that depends on the
        clock. The last ``.stages`` say which answers. ``MINIGRAD_TIER`` sets the default.

    Returns
    -------
    Compiled
        A function of the same arguments. Its results share no memory with arguments or each other; it may be called
        from several threads. It pickles as the graphs traced so far, so that a process with minigrad alone can call it
        with such arguments. ``.source`` is the program, ``.stages`` the steps to it, ``.graph`` the traced graph.

    Raises
    ------
    BatchError
        On a call with an empty batch.

    Examples
    --------
    >>> def loss(w, x, y):
    ...     return (w @ x - y) ** 2
    >>> step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0, 0))))
    >>> X, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    >>> step(np.zeros(2), X, y)
    (np.float64(2.5), array([-1., -4.]))

    The program is printed as NumPy code:

    >>> "np.matmul(w, v3, out=v4)" in step.source
    True
    """
    if f is None:
        return functools.partial(compile, backend=backend, without=without, maxsize=maxsize,
                                 static_argnums=static_argnums, **options)
    if not callable(f):
        raise MinigradError(at_user_line(f"compile: the first argument must be a function, got {f!r:.60}. "
                                         "Options have names"))
    return Compiled(f, backend, without, maxsize, static_argnums, **options)
