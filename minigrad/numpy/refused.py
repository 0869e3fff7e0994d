"""Functions of NumPy and SciPy that traced values refuse: the reasons, and alternatives."""

from __future__ import annotations

from typing import NoReturn

from ..errors import MissingAttribute, TraceError, at_user_line
from ..traced_array import Array, hooks
from . import reductions  # noqa: F401
from .conversion_errors import WRITES, as_it_stands
from .dispatch import NAMES, REFUSED

_SHAPE = "the shape of its result depends on data, so it has no graph"
_COMPLEX = "its result is complex, and minigrad has no complex arrays"
_TEXT = "it makes text or a file of numbers that are known only when the program runs"
_LAYOUT = "it asks about memory, and a traced value has none"
_KIND = "it works on dates, strings or objects, and minigrad has bool, integer and floating arrays"
_SCIPY = "SciPy's function makes an ndarray of its argument"
_COUNT = "With a known number n of bins: minigrad.numpy.at(np.zeros(n))[x].add(1)."
_AT = "Write x = x.at[i].set(values), or x = np.where(mask, values, x)."
_PARTS = ("minigrad.numpy.fft.rfft_parts(x) returns the real and the imaginary part of the transform of real x, and "
          "irfft_parts(real, imaginary) goes back.")
_EIGH = "For a symmetric matrix use np.linalg.eigh; for singular values np.linalg.svd."
_OUTSIDE = "Return the value from the traced function and do it there."


def _refuse(why: str, instead: str, names: str) -> None:
    REFUSED.update(dict.fromkeys((n if n.startswith("scipy.") else f"np.{n}" for n in names.split()), (why, instead)))


_refuse(_SHAPE, "np.isin(a, b) says for each element of a whether it is in b.", "in1d")
_refuse(_SHAPE, _COUNT, "histogram2d histogramdd")
_refuse(_SHAPE, "Divide values instead: np.polyval(p, x) / np.polyval(q, x).", "polydiv")
_refuse(WRITES, _AT, "put place putmask copyto fill_diagonal")
_refuse(WRITES, "minigrad.numpy.put_along_axis returns a new array.", "put_along_axis")
_refuse(_COMPLEX, _EIGH, "linalg.eig linalg.eigvals roots")
_refuse(_COMPLEX, _PARTS, " ".join(f"fft.{kind}fft{axes}" for kind in ("", "i", "r", "ir") for axes in ("", "2", "n")))
_refuse(_COMPLEX, _PARTS, "fft.hfft fft.ihfft")
_refuse(_COMPLEX, "Sort the parts.", "sort_complex")
_refuse("it splits the bits of a float, which have no derivative", "np.log2(np.abs(x)) and np.exp2 have one.",
        "frexp")
_refuse("it packs bits into bytes, and no loss is made of those", "Use & and >> on integers.", "packbits unpackbits")
_refuse(_TEXT, _OUTSIDE, "array2string array_repr array_str save savetxt savez savez_compressed base_repr "
        "binary_repr format_float_positional format_float_scientific")
_refuse(_LAYOUT, "Leave it out.", "may_share_memory shares_memory isfortran min_scalar_type")
_refuse("it makes an np.matrix, which NumPy itself advises against", "Use np.block, and @ for products.",
        "asmatrix bmat matrix")
_refuse("whether there is a NaN or inf is known only when the program runs", "The block `with mg.debug_nans():` names "
        "the first NaN.", "asarray_chkfinite")
_refuse(_KIND, "Make numbers of them outside the traced function.",
        "isnat is_busday busday_count busday_offset datetime_as_string")
_refuse("a Python function of numbers cannot see traced ones", "Call the function itself on the array, with mg.vmap "
        "for one of single numbers, or use mg.callback.", "vectorize frompyfunc fromfunction")
_refuse("the way to contract is chosen later, when sizes are known", "Leave it out: np.einsum finds it.", "einsum_path")
_refuse("it makes an ndarray of the values in brackets", "Use np.concatenate, np.stack or np.column_stack.",
        "lib.AxisConcatenator")

for _name in ("logsumexp", "softmax", "log_softmax", "polygamma", "multigammaln", "softplus"):
    _refuse(_SCIPY, f"Write minigrad.special.{_name}, which is the same on plain arrays too.", f"scipy.special.{_name}")
_refuse("SciPy's matrices multiply numbers", "Write mg.Sparse.from_scipy(A) @ x.", "scipy.sparse")
_refuse(_SCIPY, "Write minigrad.numpy.linalg.expm.", "scipy.linalg.expm scipy.linalg.matfuncs.expm")
for _name in ("solve_triangular", "cho_factor", "cho_solve"):
    _refuse(_SCIPY, f"Write minigrad.numpy.linalg.{_name}.", f"scipy.linalg.{_name}")
_refuse("its slope in the first argument is not an elementary function", "Write the integral out, or use mg.callback.",
        "scipy.special.gammainc scipy.special.gammaincc scipy.special.betainc")

_METHODS = {
    **dict.fromkeys(("fill", "itemset", "put", "resize", "setfield", "setflags", "partition"), (WRITES, _AT)),
    "sort": (WRITES, "Write x = np.sort(x)."),
    "nonzero": ("the number of positions depends on data", "Write np.nonzero(x), or mg.select(mask)."),
    "flat": ("it is a view that can be written to", "Use x.ravel(), and x.at[i].set(v) to change it."),
    **dict.fromkeys(("view", "getfield", "byteswap", "newbyteorder"), (
        "it looks at the same bytes another way",
        "x.astype(dtype) converts the numbers, and x.reshape(shape) has them in another shape.")),
    **dict.fromkeys(("base", "ctypes", "data", "flags", "strides"), (_LAYOUT, "Leave it out.")),
    **dict.fromkeys(("dump", "dumps", "tobytes", "tostring", "tofile"), (_TEXT, _OUTSIDE)),
    "to_device": ("a graph is compiled for a device as a whole", "Use mg.compile(f, backend=...)."),
}

_TENSORS = {  # methods of PyTorch's tensors
    **dict.fromkeys(("float", "double", "half", "long", "int", "to", "type"), "x.astype(dtype)"),
    **dict.fromkeys(("mm", "bmm", "matmul"), "x @ y"), "pow": "x**y", "t": "x.T", "dim": "x.ndim", "numel": "x.size",
    "permute": "x.transpose(axes)", "unsqueeze": "np.expand_dims(x, axis)", "expand": "np.broadcast_to(x, shape)",
    "cat": "np.concatenate([x, y])", "relu": "np.maximum(x, 0)", "masked_fill": "np.where(mask, value, x)",
    "gather": "np.take_along_axis(x, index, axis)", "index_select": "np.take(x, index, axis)",
    "norm": "np.linalg.norm(x)", "detach": "mg.stop_gradient(x)", "backward": "mg.grad(f)(x)",
    "sigmoid": "mg.special.expit(x)",
    **{name: f"mg.special.{name}(x)" for name in ("softmax", "log_softmax", "logsumexp")}}


def _missing(self: Array, name: str) -> NoReturn:
    """Raise for an attribute that ndarrays have and traced values do not; `hasattr` is False of it."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in _METHODS:
        call = _TENSORS.get(name) or (f"np.{name}(x)" if name in NAMES else "")
        instead = f" Write {call}." if call else ""
        raise MissingAttribute(at_user_line(f"a traced array ({self._node.type}) has no attribute {name!r}.{instead}"))
    why, instead = _METHODS[name]
    out = as_it_stands() if name in ("fill", "sort", "put", "partition") else ""
    raise MissingAttribute(at_user_line(f"x.{name} of a traced value: {why}. {instead}{out}"))


def _assigned(self: Array) -> NoReturn:
    """Raise for an assignment to elements of a traced value."""
    raise TraceError(at_user_line(
        f"in-place assignment to a traced value ({self._node.type}, from {self._node.where}): traced arrays never "
        f"change. Write x = x.at[i].set(new), or x = np.where(mask, new, x).{as_it_stands()}"))


hooks.assigned, hooks.missing = _assigned, _missing


# NumPy's other functions: they take no array that could be traced, and are NumPy's own in minigrad.numpy too.
APART = {
    "they make an array of numbers, sizes or a file": """
        fromiter indices diag_indices mask_indices bartlett blackman hamming
        hanning kaiser load loadtxt fromfile fromregex fromstring frombuffer genfromtxt from_dlpack""",
    "they speak of dtypes, shapes and Python objects": """
        broadcast_shapes isdtype issubdtype isscalar iterable mintypecode promote_types typename datetime_data
        nested_iters""",
    "they speak of NumPy itself": """
        get_include get_printoptions set_printoptions printoptions getbufsize setbufsize geterr seterr geterrcall
        seterrcall errstate info show_config show_runtime test linalg.test fft.test""",
}
