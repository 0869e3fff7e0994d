"""Calls of NumPy's everyday functions, which `test_table` compares with NumPy's results."""

import numpy as np

from .conform import call

rng = np.random.default_rng(3)
V, W = rng.normal(size=5), rng.normal(size=5)
M = rng.normal(size=(3, 4))
T = rng.normal(size=(2, 3, 4))
S = np.array(0.7)
V4, M4 = V.astype("f4"), M.astype("f4")
K = np.array([[3, 1, 4], [1, 5, 9]])
U8 = np.array([200, 100, 7], "u1")
B3 = np.array([True, False, True])
BM = rng.normal(size=(3, 4)) > 0
SQ = rng.normal(size=(3, 3)) + 3 * np.eye(3)
SQ2 = rng.normal(size=(2, 3, 3)) + 3 * np.eye(3)
POS = np.abs(M) + 0.1
NAN = M.copy()
NAN[[0, 1, 1], [0, 2, 3]] = np.nan
SORTED = np.sort(V)
ONES = np.array([[1.0, 7.0], [1.0, 1.0]])  # of rank 1, where the lower triangle alone is read
SPECIALS = np.array([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan])
I3 = np.array([2, 0, 1])


def bare(name, *more):
    return [call(M), call(T), call(K), call(B3), call(M4), call(S), call(SPECIALS, smooth=False), *more]


def nan_reductions(smooth=True, **also):
    axes = (None, 0, 1, -1, (0, 1))
    return [*[call(NAN, axis=a, keepdims=k, smooth=smooth, **also) for a in axes for k in (False, True)],
            call(M, 0, **also), call(NAN.astype("f4"), 1, **also), call(T, axis=(0, 2), smooth=smooth, **also)]


# a start is a number, also where all elements are NaN or left out
NAN_STARTS = [call(np.array([[np.nan, np.nan], [np.nan, 1.0]]), 1, initial=0.5, smooth=False),
              call(np.array([[np.nan, 2.0], [np.nan, 1.0]]), 1, initial=0.5, where=np.array([True, False]),
                   smooth=False), call(K, initial=2.5)]


def quantiles(scale):
    q = 0.3 * scale
    methods = ("lower", "higher", "nearest", "midpoint", "hazen", "weibull", "median_unbiased", "normal_unbiased",
               "interpolated_inverted_cdf")
    return [call(V, q), call(M, q), call(M, q, 0), call(M, q, 1, keepdims=True), call(T, q, axis=(0, 2)),
            call(M, np.array([0.0, 0.25, 0.5, 1.0]) * scale, 0, smooth=False),
            call(M, np.array([[0.1, 0.9]]) * scale, 1),
            call(M, [0.1 * scale, 0.6 * scale], axis=1, keepdims=True), call(K, 0.5 * scale), call(M4, 0.5 * scale, 1),
            call(V, 0), call(V, 1 * scale), call(V[:1].copy(), q), call(B3.astype(float), q, smooth=False),
            *[call(V, q, method=m) for m in methods], call(V, 0.97 * scale, method="weibull")]


STACKED = [call([V, W]), call([M, M]), call([T, T]), call([S, S]), call([K, M[:2, :3].copy()])]
SPLIT = [call(T, 1), call(T, [1])]

MORE = {
    # -- accumulate, standard
    "cumulative_prod": [call(V), call(M, axis=0), call(K, axis=1), call(M, axis=-1, include_initial=True), call(U8),
                        call(np.array([2.0, 0.0, 3.0]), include_initial=True), call(V4, dtype="f8")],
    "cumulative_sum": [call(V), call(M, axis=0), call(K, axis=1), call(M, axis=-1, include_initial=True), call(B3)],
    "ldexp": [call(V, 3), call(V, np.array([1, -2, 0, 5, -1])), call(V4, 2), call(K, 1), call(M, I3[:1].copy()),
              call(np.array([5e-324, 1e308]), np.array([1070, -2000]), smooth=False)],
    "modf": [call(V * 3), call(M4), call(SPECIALS, smooth=False), call(K), call(B3)],
    "divmod": [call(V * 5, W), call(K, 2), call(U8, 3), call(M, POS[0]), call(K, -2), call(V4, 2)],
    "fix": [call(3 * V), call(SPECIALS, smooth=False), call(M4)],
    "real": bare("real"), "imag": bare("imag"), "real_if_close": bare("real_if_close"), "isreal": bare("isreal"),
    "iscomplex": bare("iscomplex"), "angle": [call(M), call(M, deg=True), call(M4)],
    "isposinf": [call(SPECIALS, smooth=False), call(M4)], "isneginf": [call(SPECIALS, smooth=False), call(M4)],
    "iscomplexobj": [call(M)], "isrealobj": [call(M)],
    "array_equal": [call(M, M), call(M, V), call(NAN, NAN), call(NAN, NAN, equal_nan=True), call(K, K)],
    "array_equiv": [call(M, M), call(M, V), call(M, M[0])],
    "can_cast": [call(M, "f4"), call(K, "f8"), call(M4, "f8")], "common_type": [call(M, M4), call(M4), call(K, M4)],
    "asfortranarray": [call(M), call(K)], "require": [call(M), call(M, "f4", smooth=False)],
    # -- search
    "searchsorted": [call(SORTED, V), call(SORTED, V, "right"), call(SORTED, SORTED), call(SORTED, SORTED, "right"),
                     call(SORTED, 0.1), call(V, M, sorter=np.argsort(V)), call(np.arange(4), K),
                     call(np.array([1.0, 2.0, np.nan]), np.array([np.nan, 2.0, 5.0]), smooth=False),
                     call(np.zeros(0), V), call(np.array([1, 1, 2, 2, 2]), np.array([1, 2, 3]), "right"),
                     call(np.array([1, 1, 2, 2, 2]), np.array([1, 2, 3])), call(V4[:0].copy(), V4),
                     call(np.arange(16), np.array([-1, 0, 7, 15, 16, 99]))],
    "digitize": [call(V, [-1.0, 0.0, 1.0]), call(V, [1.0, 0.0, -1.0]), call(V, [1.0, 0.0, -1.0], right=True),
                 call(V, SORTED, right=True), call(M, SORTED), call(np.array([0, 1, 2]), [0, 1, 2], right=True),
                 *[call(x, b, right=r) for r in (False, True) for x, b in (
                     (V, SORTED[::-1].copy()), (K, [5, 3, 1]), (K, np.array([5, 3, 1])), (K, np.array([1, 3, 5])),
                     (np.array([np.nan, 0.0]), SORTED[::-1].copy()), (K, np.array([3, 3, 3])), (K, np.array([3])),
                     (K, np.zeros(0)), (K, [3, 3]), (K, np.array([5, 5, 1])))]],
    "isin": [call(K, np.array([1, 9])), call(K, [1, 9], invert=True), call(V, V[:2].copy()), call(V, [])],
    "interp": [call(M[0], SORTED, W), call(M, SORTED, W), call(M[1], SORTED, W, left=-9.0, right=9.0),
               call(0.3, SORTED, W),
               call(V * 9, np.array([0.5, 2.0, 4.0]), W[:3].copy(), period=5.0),
               call(V, [0.0, 1.0, 2.0], [1.0, 3.0, 2.0]),
               call(np.array([np.nan, 9.0, -9.0, 1.0]), np.array([0.0, 1.0]), np.array([2.0, 3.0]), smooth=False),
               call(V, np.array([0.2]), np.array([1.5])), call(M4[0], SORTED, W), call(np.arange(3), np.arange(3), I3)],
    "histogram": [call(V), call(V, 3, smooth=False), call(V, [-1.0, 0.0, 1.0]), call(V, bins=4, range=(-1, 1)),
                  call(V, 3, (-1, 1), density=True), call(V, np.array([-2.0, 0.0, 2.0]), weights=np.abs(W)),
                  call(K, 4), call(np.array([1.0, 1.0]), 2), call(M, [-1.0, 0.0, 1.0]), call(V4, 3, (-1, 1)),
                  call(V4, 3, (-1, 1), density=True, weights=V4**2)],
    "histogram_bin_edges": [call(V), call(V, 3), call(K, 4), call(V, 3, (0, 1)), call(np.array([1.0, 1.0]), 2),
                            call(V4, 3, (0, 1)), call(K, 3, (0, 1))],
    "lexsort": [call((np.array([1, 0, 1, 0, 2]), np.array([2, 1, 1, 1, 0]))), call(K), call((V, W)),
                call((K, K[::-1].copy()), axis=0)],
    "partition": [call(SORTED, 2), call(np.array([[3.0, 1.0], [0.0, 2.0]]), 0), call(np.array([2.0, 1.0]), 0, axis=0)],
    "argpartition": [call(np.array([[3.0, 1.0], [0.0, 2.0]]), 0), call(np.array([2.0, 1.0]), 0, axis=0)],
    "unravel_index": [call(np.array([0, 5, 11]), (3, 4)), call(np.array([0, 5, 11]), (3, 4), order="F"),
                      call(np.array(7), (2, 2, 2))],
    "ravel_multi_index": [call((np.array([0, 2]), np.array([3, 1])), (3, 4)),
                          call((np.array([0, 2]), np.array([3, 1])), (3, 4), order="F"),
                          call((np.array([0, 5]), np.array([-3, 1])), (3, 4), mode="wrap"),
                          call((np.array([0, 5]), np.array([-3, 1])), (3, 4), mode=("clip", "wrap"))],
    # -- arranging
    "append": [call(V, W), call(M, M, 0), call(M, T), call(V, 1.0), call(K, M[:2, :3].copy(), axis=1)],
    "insert": [call(V, 1, 2.0), call(V, [1, 1, 3], W[:3].copy()), call(M, 1, V[:4].copy(), 0),
               call(M, 1, V[:3].copy(), 1),
               call(M, [1], 2.0, 1), call(M, [0, 4], M[:, :2].copy(), axis=1), call(M, 2, 0.5), call(K, -1, 7, axis=1),
               call(V, slice(0, 4, 2), 1.0), call(V, [], []), call(V, 5, W), call(V, -5, 1.0), call(M, [2], M, axis=0)],
    "delete": [call(V, 1), call(V, [0, -1]), call(M, 1, 0), call(M, slice(0, 3, 2), 1), call(M, [1, 1], axis=1),
               call(M, 5), call(V, []), call(V, slice(None, None, -1))],
    "resize": [call(V, (2, 3)), call(M, 4), call(V, (3, 4)), call(K, (2, 2)), call(np.zeros(0), (2,))],
    "compress": [call([True, False, True], M, 0), call([0, 1, 0, 1, 1], V), call([True, False], M, axis=1)],
    "extract": [call([True, False, True, False, True], V)],
    "hsplit": [call(V, [2]), call(M, 2), call(T, 3)], "vsplit": [call(M, 3), *SPLIT],
    "dsplit": [call(T, 2), call(T, [1])],
    "atleast_3d": [call(S), call(V), call(M), call(T), call(np.zeros((1, 2, 3, 4)))], "dstack": STACKED,
    "block": [call([V, W]), call([[M, M], [M, M]]), call([[S, V], [V, S]]), call(M), call([[SQ, SQ[:, :1].copy()],
                                                                                       [SQ[:1].copy(), S]]),
              call([[V, W], [W, V]]), call([[[M]], [[M]]])],
    "rot90": [call(M), call(M, 2), call(M, 3), call(M, -1), call(T, 1, (1, 2)), call(T, 1, (2, 0)), call(M, 4)],
    "fliplr": [call(M), call(T), call(K)], "flipud": [call(V), call(M), call(K)],
    "rollaxis": [call(T, 2), call(T, 0, 3), call(T, 1, 1), call(T, -1, 1), call(T, 0, 2)],
    "meshgrid": [call(V, W[:3].copy()), call(V, W[:3].copy(), indexing="ij"), call(V, W[:2].copy(), I3), call(V),
                 call(V, W[:3].copy(), sparse=True), call(S, V)],
    "ix_": [call(I3, np.array([1, 0])), call(I3)], "diagflat": [call(V), call(M), call(V, 1), call(K, -1)],
    "tril_indices_from": [call(SQ), call(M, 1)], "triu_indices_from": [call(SQ), call(M, -1)],
    "diag_indices_from": [call(SQ)],
    "tril_indices": [call(3), call(3, 1, 4)], "triu_indices": [call(3), call(4, -1, 2)],
    "nonzero": [call(M > 0), call(V), call(np.eye(3, dtype=int))], "flatnonzero": [call(M > 0), call(V)],
    "argwhere": [call(M > 0), call(V), call(K)],
    # of integers: a cotangent has no size ahead of the call; `test_sets` has the gradients
    "unique": [call(K), call(K, True, True, True), call(BM), call(K, axis=0, return_inverse=True),
               call(K, return_index=True, return_counts=True, axis=1)],
    "unique_all": [call(K)], "unique_counts": [call(K)], "unique_inverse": [call(K)],
    "unique_values": [call(np.array([[2, 2], [2, 2]]))],  # in NumPy, several values have no order
    "union1d": [call(K, I3)], "setxor1d": [call(K, I3), call(I3, I3[:2].copy(), True)],
    "intersect1d": [call(K, I3), call(K, I3, return_indices=True)],
    "setdiff1d": [call(K, I3), call(I3, I3[1:].copy(), True)],
    "bincount": [call(I3), call(K[1]), call(I3, minlength=5), call(U8 % 7)],
    "trim_zeros": [call(np.array([0, 0, 3, 0, 2, 0])), call(K - 1), call(np.array([0, 3, 0]), "f"),
                   call(np.array([0, 3, 0]), "b")],
    "sliding_window_view": [call(V, 3), call(M, (2, 3)), call(M, 2, axis=0), call(T, (2, 2), axis=(2, 1)),
                            call(K, (1, 3)),
                            call(V, 5)],
    "select": [call([M > 0, M < -0.5], [M, M * M], 7.0), call([BM, ~BM], [1.0, M]), call([BM], [K[:1, :1].copy()], 2),
               call([BM[0], BM], [M[0], M]), call([B3], [I3])],
    "choose": [call(np.array([0, 1, 1]), [V[:3].copy(), W[:3].copy()]), call(np.array([[0], [1]]), [V, W]),
               call(np.array([0, 5, -1]), [V[:3].copy(), W[:3].copy()], mode="clip"), call(I3, M[:, :3].copy()),
               call(np.array([0, 5, -1]), [V[:3].copy(), W[:3].copy()], mode="wrap"), call(I3, [1, 2.5, 3])],
    "piecewise": [call(V, [V < 0, V >= 0.5], [lambda x: x * x, np.exp]), call(V, [V < 0], [-1.0, np.sin]),
                  call(V, V < 0, [np.negative, 2.0]), call(M, [M < 0, M > 0.5], [0.0, 1.0, lambda x: 3 * x])],
    "apply_along_axis": [call(np.sum, 0, M), call(lambda r: r[0] * r, 1, M), call(np.outer, 0, M, V),
                         call(lambda r: np.outer(r, r), 1, T), call(lambda r: r.max(), -1, T), call(np.sort, 0, M)],
    "apply_over_axes": [call(np.sum, T, [0, 2]), call(np.mean, M, 1)],
    # -- statistics
    "quantile": [*quantiles(1.0), call(NAN, 0.5, 1, smooth=False)], "percentile": quantiles(100.0),
    "nanquantile": [call(NAN, 0.3, 1), call(NAN, 0.5), call(NAN, [0.1, 0.7], axis=0, keepdims=True), call(K, 0.5),
                    call(NAN, 0.4, 1, method="hazen")],
    "nanpercentile": [call(NAN, 30.0, 1), call(NAN, 50.0)], "nanmedian": [call(NAN), call(NAN, 1), call(NAN, 0),
                                                                          call(M4)],
    "nansum": [*nan_reductions(), *nan_reductions(initial=2.5), call(NAN, where=BM), call(NAN, 1, initial=1, where=BM)],
    "nanprod": nan_reductions(), "nanmax": [*nan_reductions(), call(K, 1), *NAN_STARTS],
    "nanmin": [*nan_reductions(), call(K, 1), *NAN_STARTS],
    "nanmean": [*nan_reductions(), call(K), call(NAN, where=BM)],
    "nanvar": [*nan_reductions(), *nan_reductions(ddof=1), call(K, 0)], "nanstd": [*nan_reductions(), call(K)],
    "nancumsum": [call(NAN), call(NAN, 1), call(K, 0)], "nancumprod": [call(NAN), call(NAN, 0), call(K, 0)],
    "nanargmax": [call(NAN, smooth=False), call(NAN, 1, smooth=False), call(K, 0), call(NAN, 0, keepdims=True)],
    "nanargmin": [call(NAN, smooth=False), call(NAN, 1, smooth=False), call(K, 0)],
    "cov": [call(V), call(M), call(V, W), call(M, rowvar=False), call(M, bias=True), call(M, ddof=0), call(K),
            call(M, M), call(M[:1].copy(), rowvar=False, bias=True), call(M[:1].copy(), rowvar=False, ddof=0),
            call(M[:, :1].copy(), rowvar=False), call(M, M, rowvar=False), call(V[:3].copy(), M[:1, :3].copy(), False),
            call(M, aweights=np.array([1.0, 2.0, 0.5, 3.0])), call(M, fweights=np.array([1, 2, 1, 3])), call(M4),
            call(M, fweights=np.array([1, 2, 1, 3]), aweights=np.array([1.0, 2.0, 0.5, 3.0]))],
    "corrcoef": [call(M), call(V, W), call(M, rowvar=False), call(V), call(M[:, :1].copy(), rowvar=False)],
    # -- calculus
    "ediff1d": [call(V), call(M), call(V, 1.0), call(V, to_begin=[0.5, 1.0], to_end=np.array(3.0)), call(K)],
    "gradient": [call(V), call(V, 2.0), call(V.astype(np.float32), np.cumsum(np.abs(W) + 0.1)),
                 call(V.astype(np.float32), np.float64(2.0)), call(V, np.cumsum(np.abs(W) + 0.1)), call(M),
                 call(M, axis=1),
                 call(T, 0.5, 1.0, 2.0,),
                 call(V, edge_order=2), call(V, np.cumsum(np.abs(W) + 0.1), edge_order=2), call(M, axis=(1, 0)),
                 call(V4),
                 call(M, 2.0, np.array([0.0, 1.0, 3.0, 4.0])), call(T[..., :3].copy(), axis=-1, edge_order=2)],
    "trapezoid": [call(V), call(M), call(V, W), call(M, axis=0), call(M, dx=0.5), call(M, V[:4].copy()),
                  call(M, M, axis=0), call(M, dx=np.array([[1.0], [2.0]]), axis=0), call(M, dx=V[:4].copy(), axis=0),
                  call(M, dx=V[:3].copy()), call(M, V[:3].copy(), axis=0), call(T, V[:3].copy(), axis=1),
                  call(T, M, axis=-1), call(K)],
    "unwrap": [call(3 * V), call(np.cumsum(3 * np.abs(M), 1)), call(5 * M, axis=0), call(K, period=4),
               call(K, period=5),
               call(3 * V, period=2.5), call(5 * V, discont=4.0)],
    "linspace": [call(S, np.array(2.0), 5), call(V, W, 4), call(V, 2.0, 3, axis=-1), call(S, 2.0, 4, endpoint=False),
                 call(S, 2.0, 4, retstep=True), call(np.array(1), np.array(9), 5, dtype=int), call(S, 2.0, 1),
                 call(S, 2.0, 0),
                 call(V4, W.astype("f4"), 3)],
    "logspace": [call(S, np.array(2.0), 5), call(V, W, 4, base=2.0), call(S, 2.0, 3, endpoint=False)],
    "geomspace": [call(S, np.array(2.0), 5), call(POS, POS * 7, 4), call(-S, np.array(-2.0), 3),
                  call(S, 2.0, 3, endpoint=False)],
    "vander": [call(V), call(V, 3), call(V, 4, increasing=True), call(I3), call(V4, 3), call(V, 0), call(V, 1)],
    "polyval": [call(V, W), call(V, M), call(V, 2.0), call([1, 2], K), call(V4, M4)],
    "polyadd": [call(V, W[:3].copy()), call(V[:2].copy(), W)], "polysub": [call(V, W[:3].copy()),
                                                                           call(V[:2].copy(), W)],
    "polymul": [call(V, W[:3].copy()), call(V[:1].copy(), W)],
    "polyder": [call(V), call(V, 2), call(V[:1].copy()), call(K[0])],
    "polyint": [call(V), call(V, 2), call(V, 2, [1.0, 2.0]), call(V, 1, 3.0), call(K[0])],
    "poly": [call(V), call(V[:1].copy()), call(V.astype("f2"), smooth=False), call(V4), call(K[0]), call(B3),
             call(np.array([np.nan, 1.0, np.inf]), smooth=False)],
    "polyfit": [call(V, W, 2), call(V, W, 1, w=np.abs(W) + 0.1), call(V, np.stack([W, V * W], 1), 2)],
    # -- convolution
    "convolve": [call(a, b, mode) for a, b in ((V, W[:3].copy()), (V[:3].copy(), W), (V, W), (V, W[:2].copy()),
                                               (V[:2].copy(), W))
                 for mode in ("full", "same", "valid")] + [call(I3, K[0]), call(V4, V4)],
    "correlate": [call(a, b, mode) for a, b in ((V, W[:3].copy()), (V[:3].copy(), W), (V, W), (V, W[:2].copy()),
                                                (V[:2].copy(), W),
                                                (V, W[:4].copy()), (V[:4].copy(), W))
                  for mode in ("full", "same", "valid")],
    # -- linalg
    "matvec": [call(M, V[:4].copy()), call(T, V[:4].copy()), call(SQ2, M[:2, :3].copy()), call(K, I3)],
    "vecmat": [call(V[:3].copy(), M), call(M[:2, :3].copy(), SQ2), call(V[:3].copy(), T)],
    "linalg.diagonal": [call(SQ), call(T), call(T, offset=1), call(M, offset=-1)],
    "linalg.trace": [call(SQ), call(T), call(M, offset=1), call(U8[None])],
    "linalg.outer": [call(V, W), call(I3, V)], "linalg.cross": [call(SQ, SQ), call(SQ.T.copy(), SQ, axis=0)],
    "linalg.matmul": [call(SQ, M), call(T, M.T.copy())], "linalg.tensordot": [call(M, M, axes=2),
                                                                              call(M, SQ, axes=((0,), (1,)))],
    "linalg.vecdot": [call(M, M), call(M, M, axis=0)], "linalg.matrix_transpose": [call(M), call(T)],
    "vector_norm": [call(V), call(M), call(M, axis=0), call(T, axis=(0, 2), keepdims=True), call(V, ord=1),
                    call(V, ord=3),
                    call(V, ord=np.inf), call(V, ord=-np.inf), call(V, ord=0), call(M4), call(K),
                    call(T, ord=1, axis=(2, 0))],
    "matrix_norm": [call(M), call(T), call(SQ, ord=1), call(SQ, ord=2), call(SQ, ord=-2), call(M, ord="nuc"),
                    call(SQ, ord=np.inf, keepdims=True)],
    "svdvals": [call(M), call(SQ2)],
    "matrix_rank": [call(M), call(SQ2), call(np.ones((3, 3)), smooth=False), call(V), call(M, tol=1.0),
                    call(M, rtol=0.5), call(ONES, hermitian=True, smooth=False)],
    "cond": [call(SQ), call(SQ2), call(SQ, 1), call(SQ, -2), call(SQ, np.inf), call(SQ, "fro"), call(M)],
    "pinv": [call(SQ), call(M), call(M.T.copy()), call(T), call(SQ2), call(M4), call(SQ, hermitian=True)],
    "lstsq": [call(SQ, V[:3].copy()), call(M.T.copy(), V[:4].copy()), call(M.T.copy(), np.stack([V[:4], W[:4]], 1)),
              call(M, V[:3].copy())],
    "tensorinv": [call(SQ[:, None, :, None].copy(), ind=2), call(SQ, ind=1)],
    "tensorsolve": [call(SQ, V[:3].copy()), call(rng.normal(size=(2, 3, 6)), M[:2, :3].copy())],
    "i0": [call(V), call(M4), call(K)],
    # -- fft
    "fftshift": [call(V), call(M), call(M, 1), call(T, axes=(0, 2)), call(K, -1)],
    "ifftshift": [call(V), call(M), call(M, 1), call(T, axes=(0, 2)), call(K, -1)],
}
