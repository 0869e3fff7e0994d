"""The page FUNCTIONS.md: derivatives and batching of every function, and the refused functions with reasons.

The page follows from calls: each function runs on traced values, and its graph is differentiated and batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import optree

from .. import interpreters
from ..errors import MinigradError, TraceError, Unsupported
from ..graph import CALLS, PRIMITIVES, Graph, Node, constant_of, full, reachable
from ..primitive import placeholder
from ..traced_array import TABLE, Array, as_array
from ..tracing import new_trace
from . import special
from .dispatch import FFT, LINALG, NAMES, REFUSED, SCIPY
from .refused import APART

_LOOPS = frozenset({"callback", "scan", "while", "chunked"})
_BATCH = 5
HEAD = """# NumPy's functions on traced values

Made by `python -m minigrad.numpy`; a test keeps it up to date. Each function below was called on traced values, and
its graph was differentiated in reverse and in forward mode, differentiated again, and batched.

`np.f` was called as NumPy's own function (`import numpy as np`), with the traced values themselves as its array
arguments. NumPy does not hand a call over for values within a list (`np.mean([a, b])`), as an index of an ndarray
(`np.take(table, i)`), a size or a fill value (`np.full(3, v)`): `import minigrad.numpy as np` takes all of these. Where
NumPy never hands it over, the table adds the name that works: *as* `minigrad.numpy.f`.

- **yes**: the derivative is exact.
- **0**: the result is of integers or bools, or does not change where it is differentiable: no gradient flows. In second
  order: the function is linear, or piecewise so.
- **batched**: `vmap` rewrites it; **loop-free** says that the batch runs no loop over examples.
"""


# Traced values by name, and the arguments of calls with them, the plainest first.
_VALUES: dict[str, tuple[tuple[int, ...], str]] = {
    "v": ((4,), "f8"), "u": ((3,), "f8"), "m": ((3, 4), "f8"), "sq": ((3, 3), "f8"), "t": ((2, 3, 4), "f8"),
    "tensor": ((3, 2, 3, 2), "f8"), "filters": ((2, 2, 2, 2), "f8"), "i": ((3,), "i8"), "j": ((3, 4), "i8"),
    "b": ((3, 4), "?")}
_CALLS = ("m", "sq", "v", "i", "b", "m, m", "sq, sq", "v, v", "sq, u", "u, sq", "i, i", "m, i", "v, v, v", "[m, m]",
          "m, 1", "m, 0.3", "i, (3, 4)", "m, 0, 1", "v, v, 1", "m, (4, 3)", "2, m", "(3, 4)", "(3, 4), v",
          "m, np.float32", "t, 2", "tensor", "m, j, 1", "3")


# Arguments of functions for which the first that work show too little, or all above fail.
_CALL_OF = {
    "where": "b, m, m", "searchsorted": "v, v", "digitize": "v, v", "bitwise_count": "i", "interp": "v, v, v",
    "extract": "[True, False, True, True], v", "compress": "[True, False, True, True], v", "select": "[b], [m]",
    "piecewise": "(x := v), [x < 0], [np.negative, np.square]", "choose": "i, [i * 1.0, sq[0]]", "arange": "3",
    "apply_along_axis": "np.cumsum, 0, m", "apply_over_axes": "np.sum, m, [0]", "einsum": "'ij,ij->i', m, m",
    "insert": "m, 1, 0.5, 0", "pad": "m, 1", "put_along_axis": "m, np.zeros((3, 1), int), m[:, :1], 1", "eye": "3",
    "linalg.norm": "m", "ravel_multi_index": "(i, i), (3, 4)", "conv": "t, filters", "max_pool": "t, 2",
    "avg_pool": "t, 2", "take_along_axis": "m, j, 1", "ldexp": "m, 2", "full_like": "m, 0.3", "polygamma": "2, m",
    "multigammaln": "m, 1", "histogram": "m", "windows": "m, 1", "irfft_parts": "m, m", "sort": "m", "argsort": "m",
    "polyfit": "v, v, 1", "tensorinv": "tensor", "take": "m, i", "quantile": "m, 0.3", "nanquantile": "m, 0.3",
    "percentile": "m, 0.3", "nanpercentile": "m, 0.3", "getitem": "m, i", "broadcast_to": "m, (2, 3, 4)",
    "repeat": "m, 1", "linspace": "m, m", "logspace": "m, m", "geomspace": "m, m", "dsplit": "t, 2",
    "unravel_index": "i, (3, 4)", "isin": "m, m", "kron": "m, m", "cross": "sq, sq", "linalg.cross": "sq, sq",
    "roll": "m, 1", "moveaxis": "m, 0, 1", "swapaxes": "m, 0, 1", "rollaxis": "m, 1", "delete": "m, 1",
    "multi_dot": "[sq, sq]", "matrix_power": "sq, 2", "tensorsolve": "sq, u", "stack": "[m, m]", "lexsort": "m",
    "concatenate": "[m, m]", "cho_solve": "(sq, True), u", "block": "[m, m]", "polyint": "v", "poly": "v"}


class _Fresh(dict[str, Array]):
    """A traced value for each name: a new one wherever it stands."""

    def __missing__(self, name: str) -> Array:
        shape, dtype = _VALUES[name]
        return Array(PRIMITIVES["input"](shape=shape, dtype=np.dtype(dtype)))


def rows() -> Iterator[tuple[str, str]]:
    """Yield the name of each function, and the Markdown row about it."""
    entered: dict[str, Callable[..., Any]] = {}
    numpys_own: dict[str, Callable[..., object]] = {}
    for function, ours in TABLE.items():
        module = (getattr(function, "__module__", None) or "numpy").replace("numpy.lib.stride_tricks", "numpy")
        name = f"{module}.{function.__name__}".replace("numpy", "np", 1)
        entered[name], numpys_own[name] = ours, function
    numpys = {name for space in (np, np.linalg, np.fft, np.lib.stride_tricks) for name in dir(space)}
    for names, prefix in ((NAMES, "minigrad.numpy."), (LINALG, "minigrad.numpy.linalg."), (FFT, "minigrad.numpy.fft.")):
        for name, ours in names.items():
            if name not in numpys and name not in ("getitem", "at"):  # which are x[i] and x.at[i]
                entered[prefix + name] = ours
    entered |= {f"scipy.special.{name}": ours for name, ours in SCIPY.items()}
    entered |= {f"minigrad.special.{name}": ours for name, ours in special.NAMES.items() if name not in SCIPY}
    for name, ours in sorted(entered.items()):
        cells, handed_over = _row(name, ours, numpys_own.get(name))
        label = f"`{name}`" if handed_over else f"`{name}`, as `minigrad.numpy.{name.removeprefix('np.')}`"
        yield name, f"| {label} | " + " | ".join(cells) + " |"


def _row(name: str, function: Callable[..., Any], numpys: Callable[..., object] | None) -> tuple[list[str], bool]:
    """Return the cells of a row, and whether NumPy's function hands the call over, if there is one."""
    short = name.split(".", 1 if name.startswith("np.") else 2)[-1]
    chosen = _CALL_OF.get(short) or _CALL_OF.get(short.rpartition(".")[2])
    for call in (chosen,) if chosen else _CALLS:
        args: Any = eval(f"({call},)", {"np": np}, _Fresh())
        try:
            with new_trace():
                result = function(*args)
        except (MinigradError, TypeError, ValueError, IndexError, AttributeError) as error:
            failure = error
            continue
        outputs = [as_array(x)._node for x in optree.tree_leaves(result) if isinstance(x, Array)]
        inputs = [x._node for x in optree.tree_leaves(args) if isinstance(x, Array)]
        return _cells(outputs, inputs), numpys is None or not inputs or _hands_over(numpys, args)
    raise MinigradError(f"{name}: no way to call it is known, the last one failed: {failure}")


def _hands_over(numpys: Callable[..., object], args: tuple[Any, ...]) -> bool:
    try:
        with new_trace():
            numpys(*args)
    except TraceError:
        return False
    return True


def _cells(outputs: list[Node], inputs: list[Node]) -> list[str]:
    if not outputs:
        return ["0", "0", "0", "yes", "yes", ""]
    floats, wrt = [n for n in outputs if n.type.floating], [n for n in inputs if n.type.floating]
    reverse = second = forward = "0"
    if floats and wrt:
        back = interpreters.backward(floats, [full(1, n.shape, n.dtype) for n in floats], wrt)
        reverse = _has_derivative(back)
        forward = _has_derivative(interpreters.forward(floats, {n: placeholder(n.types[0]) for n in wrt}))
        if reverse == "yes":
            second = _has_derivative(interpreters.backward(back, [full(1, n.shape, n.dtype) for n in back], wrt), wrt)
    new = {n: PRIMITIVES["input"](shape=(_BATCH, *n.shape), dtype=n.dtype) for n in inputs}
    try:
        held = Graph(tuple(inputs), tuple(outputs))
        packed = CALLS["packed"](held, [*new.values()], [0] * len(new), 0, _BATCH)  # of functions that select rows
        batched = packed.outputs if packed else [n for n, _ in interpreters.batch(outputs, {}, new, _BATCH)]
    except Unsupported as error:
        return [reverse, forward, second, f"no: {error}", "", ""]
    batched_names = {n.prim.name for n in reachable(batched)}
    names = sorted({n.prim.name for n in reachable(outputs)} - {"input", "full", "const", "iota", "proj"})
    few = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return [reverse, forward, second, "yes", "no" if batched_names & _LOOPS else "yes", few]


def _has_derivative(derivatives: Iterable[Node | None], wrt: Iterable[Node] = ()) -> str:
    nonzero = [n for n in derivatives if n is not None and constant_of(n) != 0]
    return "yes" if nonzero else "0"


def page() -> str:
    """Return the page, in Markdown."""
    lines = [HEAD, "## Supported", "",
             "| function | reverse | forward | second order | batched | loop-free | made of |",
             "|---|---|---|---|---|---|---|", *(row for _, row in rows()), "",
             "Beside these: `x[i]` with everything that NumPy's indexing takes, `x.at[i].set`, `add`, `subtract`, "
             "`multiply`, `divide`, `min`, `max` and `apply`, Python's operators, and the methods that ndarrays have.",
             "",
             "The methods of a ufunc: `reduce` and `accumulate` of the associative ones, and `outer` of all.", "",
             "## Refused", "", "| function | why | write instead |", "|---|---|---|",
             *(f"| `{name}` | {why} | {instead} |" for name, (why, instead) in sorted(REFUSED.items())), "",
             "## NumPy's own", "",
             "These take no array that could be traced, and are NumPy's functions in `minigrad.numpy` too."]
    for why, names in APART.items():
        lines += ["", f"{why[0].upper()}{why[1:]}: " + ", ".join(f"`np.{n}`" for n in sorted(names.split())) + "."]
    return "\n".join(lines) + "\n"
