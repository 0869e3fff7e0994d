"""Convolution and pooling, against sums over windows."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.numpy as mnp

from .conform import assert_same, call, check_call, run_traced

rng = np.random.default_rng(5)
IMAGE = rng.normal(size=(4, 7, 6))
FILTERS = rng.normal(size=(6, 4, 3, 2))


def conv_by_hand(x, w, stride=1, padding=0, dilation=1, groups=1):
    """Sum over every window, one output number at a time."""
    (s1, s2), (d1, d2) = (np.broadcast_to(v, 2) for v in (stride, dilation))
    if padding == "same":
        pads = []
        for n, s, k, d in zip(x.shape[1:], (s1, s2), w.shape[2:], (d1, d2), strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
    else:
        pads = [(p, p) if np.ndim(p) == 0 else p for p in np.broadcast_to(padding,
                                                                          2)] if np.ndim(padding) < 2 else padding
    x = np.pad(x, [(0, 0), *map(tuple, pads)])
    o, c = w.shape[0], w.shape[1]
    h = (x.shape[1] - (w.shape[2] - 1) * d1 - 1) // s1 + 1
    v = (x.shape[2] - (w.shape[3] - 1) * d2 - 1) // s2 + 1
    out = np.zeros((o, h, v))
    for f, i, j in np.ndindex(out.shape):
        first = f // (o // groups) * c
        window = x[first:first + c, i * s1:i * s1 + (w.shape[2] - 1) * d1 + 1:d1,
                   j * s2:j * s2 + (w.shape[3] - 1) * d2 + 1:d2]
        out[f, i, j] = (window * w[f]).sum()
    return out


@pytest.mark.parametrize("options", [
    {}, {"stride": 2}, {"stride": (2, 1)}, {"padding": 1}, {"padding": ((1, 0), (2, 1))}, {"padding": "same"},
    {"padding": "same", "stride": 2}, {"dilation": 2}, {"dilation": (1, 3), "padding": (2, 1)}], ids=repr)
def test_conv(options):
    check_call(lambda x, w: conv_by_hand(x, w, **options), call(IMAGE, FILTERS),
               traced=lambda x, w: mnp.conv(x, w, **options))


@pytest.mark.parametrize("groups", [2, 4])
def test_conv_in_groups(groups):
    w = rng.normal(size=(8, 4 // groups, 2, 3))
    check_call(lambda x, w: conv_by_hand(x, w, groups=groups), call(IMAGE, w),
               traced=lambda x, w: mnp.conv(x, w, groups=groups))


def test_conv_of_one_and_three_axes():
    x, w = rng.normal(size=(2, 9)), rng.normal(size=(3, 2, 4))
    want = np.stack([sum(np.correlate(x[c], w[f, c]) for c in range(2)) for f in range(3)])
    assert_same(run_traced(lambda x, w: [mnp.conv(x, w)], x, w)[0], want)
    x, w = rng.normal(size=(2, 3, 4, 3)), rng.normal(size=(2, 2, 2, 2, 2))
    want = np.einsum("cijkabd,ocabd->oijk", np.lib.stride_tricks.sliding_window_view(x, (2, 2, 2), axis=(1, 2, 3)), w)
    assert_same(run_traced(lambda x, w: [mnp.conv(x, w)], x, w)[0], want)


def test_pooling():
    def pooled(reduce):
        return lambda x: reduce(np.lib.stride_tricks.sliding_window_view(x, (2, 3), axis=(1, 2))[:, ::2, ::3],
                                axis=(-2, -1))

    check_call(pooled(np.max), call(IMAGE), traced=lambda x: mnp.max_pool(x, (2, 3)))
    check_call(pooled(np.mean), call(IMAGE), traced=lambda x: mnp.avg_pool(x, (2, 3)))
    assert run_traced(lambda x: [mnp.max_pool(x, 3, stride=1, padding="same")], IMAGE)[0].shape == IMAGE.shape
    assert np.isfinite(run_traced(lambda x: [mnp.max_pool(x, 3, padding=1)], IMAGE)[0]).all()


@pytest.mark.parametrize("size", [2, 3, (1, 4), (4, 3)])
def test_windows_side_by_side_are_views(size):
    x = rng.integers(0, 3, (2, 7, 9)).astype(float)  # many ties
    h, w = size if isinstance(size, tuple) else (size, size)
    graph = mg.trace(lambda x: mnp.max_pool(x, size))(x)
    assert graph.count("gather") == 0
    gradient, want = mg.grad(lambda x: np.sum(mnp.max_pool(x, size) ** 2))(x), np.zeros_like(x)
    for c, i, j in np.ndindex(2, 7 // h, 9 // w):
        part = np.s_[c, i * h:(i + 1) * h, j * w:(j + 1) * w]
        top = x[part] == x[part].max()
        want[part] = 2 * x[part].max() * top / top.sum()
    assert_same(gradient, want)
    patches = run_traced(lambda x: [mnp.windows(x, (h, w), stride=(h, w))], x)[0]
    assert_same(patches, np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(1, 2))[:, ::h, ::w])


def test_windows_that_do_not_fit_are_refused():
    for f, match in ((lambda x, w: mnp.conv(x[:, :2], w), "does not fit"),
                     (lambda x, w: mnp.conv(x[:3], w), "channels"),
                     (lambda x, w: mnp.conv(x[0], w), "expected"), (lambda x, w: mnp.windows(x, (2, 2), stride=0),
                                                                    "fit"),
                     (lambda x, w: mnp.windows(x, (2, 2), stride=(1, 1, 1)), "3 numbers")):
        with pytest.raises(mg.ShapeError, match=match):
            mg.trace(f)(IMAGE, FILTERS)


@pytest.mark.parametrize(("shape", "size", "stride"), [
    ((3, 40), 8, 8), ((3, 41), 5, 4), ((2, 17, 18), 4, 4), ((2, 17, 18), (2, 5), (1, 6)),
    ((2, 17, 18), (5, 2), (6, 1))])
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_pools_with_long_steps(shape, size, stride, backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    x = np.random.default_rng(0).normal(size=(3, *shape))
    axes = tuple(range(1 - len(shape), 0))
    sizes, steps = (np.broadcast_to(v, len(axes)) for v in (size, stride))
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(sizes), axes)
    view = view[(..., *(slice(None, None, s) for s in steps), *(slice(None),) * len(axes))]
    for pool, want in ((mnp.max_pool, view.max(axes)), (mnp.avg_pool, view.mean(axes))):
        have = mg.compile(mg.vmap(lambda v, pool=pool: pool(v, size, stride)), backend=backend)(x)
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-15)
    slope = mg.compile(mg.vmap(mg.grad(lambda v: np.sum(mnp.max_pool(v, size, stride)))), backend=backend)(x)
    assert slope.sum() == view.max(axes).size  # without ties, one for each window
    assert set(np.flatnonzero(slope)) == {int(np.flatnonzero(x == v)[0]) for v in view.max(axes).flat}


def test_windows_far_apart_are_reduced_along_their_elements():
    for stride, axes in ((3, (1,)), (4, (2,))):
        graph = mg.trace(lambda x, s=stride: mnp.max_pool(x, 5, s))(mg.f32[2, 41])
        (node,) = (n for n in graph.nodes if n.prim.name == "max")
        assert node.params["axes"] == axes
