"""The Python array API standard, 2024.12: every name is there or refused, and its calls compute what it says.

`array_api_strict`, an implementation of the standard and no more, names the functions and their results.
"""

import inspect

import array_api_strict as xp
import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp
from minigrad.numpy.dispatch import FFT, LINALG, NAMES, REFUSED

from .conform import run_traced

# These take no array, or say what dtype one has: NumPy's own are right.
ABOUT_DTYPES = {"isdtype", "from_dlpack", "__array_namespace_info__", "fftfreq", "rfftfreq"}
REASONS = dict.fromkeys(["fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft"],
                        "complex")
NOT_THE_STANDARDS = {"set_array_api_strict_flags", "get_array_api_strict_flags", "reset_array_api_strict_flags",
                     "ArrayAPIStrictFlags", "Device", "__version__"}

SPACES = {"": (xp, mnp, NAMES), "linalg.": (xp.linalg, mnp.linalg, LINALG), "fft.": (xp.fft, mnp.fft, FFT)}
FUNCTIONS = [(prefix, name) for prefix, (space, _, _) in SPACES.items() for name in space.__all__
             if inspect.isroutine(getattr(space, name)) and name not in NOT_THE_STANDARDS]


@pytest.mark.parametrize(("prefix", "name"), FUNCTIONS)
def test_every_function_exists_or_is_refused(prefix, name):
    _, ours, names = SPACES[prefix]
    function = getattr(ours, name)
    if name in REASONS:
        assert f"np.{prefix}{name}" in REFUSED
        with pytest.raises(mg.TraceError, match=REASONS[name]):
            mg.trace(lambda x: function(x))(np.ones(3))
    else:
        assert name in names or name in ABOUT_DTYPES or name in vars(ours)


def test_constants_and_dtypes():
    for name in set(xp.__all__) - NOT_THE_STANDARDS:
        assert hasattr(mnp, name), name
    assert mnp.__array_api_version__ == "2024.12"
    assert mnp.float32 is np.float32
    assert mnp.newaxis is None
    mg.trace(lambda x: [x.__array_namespace__(api_version="2024.12").sum(x)])(np.ones(3))


rng = np.random.default_rng(8)
M, N = rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(0.1, 0.9, (3, 4))
V = rng.uniform(0.1, 0.9, 4)
S = rng.normal(size=(3, 3)) + 3 * np.eye(3)
P = S @ S.T
K, J = np.array([[3, 1, 4], [1, 5, 9]]), np.array([[1, 2, 1], [2, 1, 3]])
B, C = rng.normal(size=(3, 4)) > 0, rng.normal(size=(3, 4)) > 0
T = rng.normal(size=(2, 3, 4))

UNARY = ["abs", "acos", "asin", "atan", "asinh", "atanh", "ceil", "conj", "cos", "cosh", "exp", "expm1", "floor",
         "isfinite", "isinf", "isnan", "log", "log1p", "log2", "log10", "negative", "positive", "reciprocal", "round",
         "sign", "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc"]
BINARY = ["add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less",
          "less_equal", "logaddexp", "maximum", "minimum", "multiply", "nextafter", "not_equal", "pow", "remainder",
          "subtract"]
BITS = ["bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor"]
LOGIC = ["logical_and", "logical_or", "logical_xor"]
REDUCTIONS = ["max", "mean", "min", "prod", "std", "sum", "var", "all", "any", "argmax", "argmin", "count_nonzero"]

CALLS = [
    *[(n, (M,), {}) for n in UNARY], *[(n, (M, N), {}) for n in BINARY], *[(n, (M, 0.5), {}) for n in BINARY],
    *[(n, (0.5, V), {}) for n in BINARY],
    *[(n, (K, J), {}) for n in BITS], ("bitwise_invert", (K,), {}), *[(n, (B, C), {}) for n in LOGIC],
    ("logical_not", (B,), {}), ("acosh", (M + 1,), {}),
    *[(n, (B if n in ("all", "any") else M,), k) for n in REDUCTIONS for k in ({"axis": 0},
                                                                               {"axis": 1, "keepdims": True})],
    *[(n, (M,), {"axis": (0, 1)}) for n in ("max", "mean", "min", "prod", "std", "sum", "var")],
    ("std", (M,), {"correction": 1.0}), ("var", (M,), {"axis": 1, "correction": 1}), ("sum", (K,), {}),
    ("prod", (K,), {"axis": 1}), ("clip", (M,), {"min": 0.3, "max": 0.6}), ("clip", (M, 0.3), {}), ("clip", (M, V), {}),
    ("cumulative_sum", (M,), {"axis": 1}), ("cumulative_sum", (V,), {"include_initial": True}),
    ("cumulative_prod", (M,), {"axis": 1}), ("cumulative_prod", (V,), {"include_initial": True}),
    ("diff", (M,), {}), ("diff", (M,), {"axis": 0, "n": 2}), ("diff", (V,),
                                                              {"prepend": V[:1].copy(), "append": V[:2].copy()}),
    ("sort", (M,), {}), ("sort", (M,), {"axis": 0, "descending": True}), ("argsort", (M,), {"axis": 0}),
    ("argsort", (M,), {"descending": True, "stable": True}), ("searchsorted", (np.sort(V), M[0]), {}),
    ("searchsorted", (np.sort(V), M[0]), {"side": "right"}), ("isin", (K, J), {}),
    ("where", (B, M, N), {}), ("where", (B, M, 0.0), {}), ("take", (M, np.array([2, 0])), {"axis": 1}),
    ("take", (V, np.array([2, 0])), {}), ("take_along_axis", (M, np.argsort(M, 1)), {"axis": 1}),
    ("take_along_axis", (M, np.argsort(M, 1)), {}), ("broadcast_to", (V, (3, 4)), {}), ("broadcast_arrays", (M, V), {}),
    ("concat", ((M, N),), {}), ("concat", ((M, N),), {"axis": None}), ("concat", ([M, N],), {"axis": 1}),
    ("stack", ((M, N),), {"axis": -1}), ("unstack", (M,), {"axis": 1}), ("expand_dims", (M,), {"axis": 1}),
    ("squeeze", (M[None],), {"axis": 0}), ("flip", (M,), {"axis": 1}), ("flip", (M,), {}),
    ("roll", (M, 1), {"axis": 1}),
    ("roll", (M, (1, 2)), {"axis": (0, 1)}), ("roll", (M, 3), {}), ("repeat", (M, 2), {"axis": 0}),
    ("repeat", (V, 2), {}),
    ("tile", (M, (2, 1, 2)), {}), ("reshape", (M, (2, 6)), {}), ("reshape", (M, (-1,)), {"copy": True}),
    ("permute_dims", (T, (2, 0, 1)), {}), ("moveaxis", (T, 0, 2), {}), ("moveaxis", (T, (0, 1), (2, 0)), {}),
    ("matrix_transpose", (T,), {}), ("matmul", (M, N.T.copy()), {}), ("tensordot", (M, N), {"axes": 2}),
    ("tensordot", (M, N), {"axes": ((0,), (0,))}), ("vecdot", (M, N), {}), ("vecdot", (M, N), {"axis": -2}),
    ("astype", (M, "float32"), {}), ("astype", (K, "float64"), {"copy": False}), ("asarray", (M,), {"copy": False}),
    ("zeros_like", (M,), {}), ("ones_like", (M,), {"dtype": "int32"}), ("full_like", (M, 2.5), {}),
    ("tril", (M,), {"k": 1}), ("triu", (M,), {}), ("meshgrid", (V, M[0]), {}),
    ("meshgrid", (V, M[0]), {"indexing": "ij"}),
    ("linspace", (0.0, 1.0), {"num": 5}), ("linspace", (0.0, 1.0), {"num": 5, "endpoint": False}),
    ("arange", (1, 9, 2), {}), ("arange", (3,), {"dtype": "float32"}), ("eye", (3, 4), {"k": 1}),
    ("full", ((2, 3), 1.5), {}),
    ("zeros", ((2,),), {}), ("ones", (3,), {"dtype": "int64"}),
    ("linalg.cholesky", (P,), {}), ("linalg.cholesky", (P,), {"upper": True}), ("linalg.cross", (S, P), {"axis": -2}),
    ("linalg.det", (S,), {}), ("linalg.diagonal", (T,), {"offset": 1}), ("linalg.eigvalsh", (P,), {}),
    ("linalg.inv", (S,), {}), ("linalg.matmul", (S, P), {}), ("linalg.matrix_norm", (S,), {}),
    *[("linalg.matrix_norm", (S,), {"ord": o, "keepdims": True}) for o in (1, -1, 2, -2, np.inf, -np.inf, "nuc",
                                                                           "fro")],
    ("linalg.matrix_power", (S, 3), {}), ("linalg.matrix_power", (S, -2), {}), ("linalg.matrix_rank", (M,), {}),
    ("linalg.matrix_rank", (M,), {"rtol": 0.5}), ("linalg.matrix_transpose", (T,), {}), ("linalg.outer", (V, M[0]), {}),
    ("linalg.pinv", (M,), {}), ("linalg.pinv", (M,), {"rtol": 1e-10}), ("linalg.slogdet", (S,), {}),
    ("linalg.solve", (S, P), {}), ("linalg.solve", (S, V[:3].copy()), {}), ("linalg.svdvals", (M,), {}),
    ("linalg.tensordot", (M, N), {"axes": 1 + 1}), ("linalg.trace", (T,), {"offset": 1}), ("linalg.vecdot", (M, N), {}),
    *[("linalg.vector_norm", (M,), {"axis": 0, "ord": o}) for o in (0, 1, 2, 3, np.inf, -np.inf)],
    ("linalg.vector_norm", (M,), {}), ("linalg.vector_norm", (T,), {"axis": (0, 2), "keepdims": True}),
    ("nonzero", (M,), {}), *[(f"unique_{kind}", (K,), {}) for kind in ("all", "counts", "inverse")],
    ("unique_values", (K[:, :1] // 4,), {}),
    ("fft.fftshift", (M,), {"axes": 1}), ("fft.ifftshift", (M,), {}),
]


def function_of(space, name):
    for part in name.split("."):
        space = getattr(space, part)
    return space


def in_standard(x):
    """Return a strict array of an ndarray, and a strict dtype of a dtype's name."""
    if isinstance(x, np.ndarray):
        return xp.asarray(x)
    if isinstance(x, (list, tuple)):
        return type(x)(map(in_standard, x))
    return getattr(xp, x) if x in ("float32", "float64", "int32", "int64") else x


@pytest.mark.parametrize("i", range(len(CALLS)), ids=lambda i: f"{i}-{CALLS[i][0]}")
def test_calls_equal_the_strict_implementation(i):
    name, args, kwargs = CALLS[i]
    with np.errstate(all="ignore"):
        want = function_of(xp, name)(*map(in_standard, args), **{k: in_standard(v) for k, v in kwargs.items()})
    want = [np.asarray(w) for w in (want if isinstance(want, (list, tuple)) else [want])]
    places = [k for k, a in enumerate(args) if isinstance(a, np.ndarray)]

    def call(*arrays):
        given = list(args)
        for k, a in zip(places, arrays, strict=True):
            given[k] = a
        out = function_of(mnp, name)(*given, **kwargs)
        return list(out) if isinstance(out, (list, tuple)) else [out]

    have = run_traced(call, *(args[k] for k in places))
    assert len(have) == len(want)
    for h, w in zip(have, want, strict=True):
        assert h.shape == w.shape
        assert h.dtype == w.dtype
        np.testing.assert_allclose(h, w, rtol=1e-10, atol=1e-12)


def test_every_function_is_called():
    called = {name for name, _, _ in CALLS}
    every = {prefix + name for prefix, name in FUNCTIONS if name not in REASONS and name not in ABOUT_DTYPES}
    shown_elsewhere = {"empty", "empty_like", "result_type", "can_cast", "finfo", "iinfo", "broadcast_shapes", "real",
                       "imag",
                       "linalg.eigh", "linalg.qr",
                       "linalg.svd"}  # no value to compare, or one of several that are right
    assert every - called == shown_elsewhere


def test_slopes_of_fmod_and_modf_at_0_and_where_they_jump():
    """Both are x less a whole number of y: of slope 1 around 0, and elsewhere as if there were no jump."""
    x, y = np.array([0.0, -0.0, 1.0, 2.0, -2.0, 2.5, -2.5]), np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0])
    gx, gy = mg.vmap(mg.grad(np.fmod, (0, 1)))(x, y)
    np.testing.assert_array_equal(gx, np.ones(7))
    np.testing.assert_array_equal(gy, -np.trunc(x / y))
    np.testing.assert_array_equal(mg.vmap(mg.grad(lambda x: np.modf(x)[0]))(x), np.ones(7))
    np.testing.assert_array_equal(mg.vmap(mg.grad(lambda x: np.modf(x)[1]))(x), np.zeros(7))
