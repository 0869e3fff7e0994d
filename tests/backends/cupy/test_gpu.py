"""CuPy's arrays in and out, other libraries' arrays, streams, memory, the same bits again.

All but the tests marked `gpu` run on the stand-in too.
"""

import threading

import numpy as np
import optree
import pytest

import minigrad as mg
from minigrad.primitive import on_host

from . import programs
from .programs import close

on_both = pytest.mark.usefixtures("on_device")  # the stand-in, and the GPU where there is one
AXES = (None, 0, 0)
MEAN = mg.mean_loss(programs.softmax_loss, AXES)


def on_gpu(tree):
    import cupy

    return optree.tree_map(cupy.asarray, tree)


def same(have, want, rtol=1e-9):
    leaves = optree.tree_leaves(have)
    assert all(hasattr(x, "__cuda_array_interface__") for x in leaves)
    close([on_host(x) for x in leaves], [np.asarray(x) for x in optree.tree_leaves(want)], rtol)


@on_both
@pytest.mark.parametrize("name", sorted(programs.used()))
def test_compiled_functions_follow_their_arrays(name):
    f, *args = programs.used()[name]
    ours = mg.compile(f)
    want = mg.compile(f, backend="numpy")(*args)
    for _ in range(3):
        same(ours(*on_gpu(args)), want, 2e-5 if "float32" in name else 1e-9)
    assert [e.backend for e in ours.entries] == ["cupy"]
    assert "not captured" not in ours.stages[-1].after


@on_both
@pytest.mark.parametrize("transform", [mg.grad, mg.value_and_grad, lambda f: mg.vmap(programs.softmax_loss, AXES),
                                       lambda f: mg.per_example_grad(programs.softmax_loss, in_axes=AXES),
                                       lambda f: mg.microbatch(f, 4)])
def test_transforms_that_are_not_compiled(transform):
    args = programs.network(9)
    same(transform(MEAN)(*on_gpu(args)), transform(MEAN)(*args))


@on_both
def test_special_functions():
    x = np.linspace(0.2, 0.8, 40)
    for name in ("erf", "erfinv", "digamma", "gammaln", "i0", "i1e", "expi", "spence", "ndtri", "log_ndtr"):
        f = getattr(mg.special, name)
        same(mg.compile(f)(on_gpu(x)), f(x), 1e-7)
        same(mg.grad(lambda x, f=f: f(x).sum())(on_gpu(x)), mg.grad(lambda x, f=f: f(x).sum())(x), 1e-7)


@on_both
def test_callbacks_see_numpys_arrays():
    x = np.random.default_rng(0).normal(size=5)
    same(mg.compile(lambda x: mg.callback(lambda a: np.sort(a), mg.f64[5], x) * 2)(on_gpu(x)), np.sort(x) * 2)


@on_both
def test_closures_and_cotangents_on_the_device():
    x, w = np.linspace(-1, 1, 5), np.arange(5.0)
    inside = on_gpu(w)
    same(mg.compile(lambda x: np.sin(x) * inside)(on_gpu(x)), np.sin(x) * w)
    same(mg.grad(lambda x: np.sum(np.sin(x) * inside))(on_gpu(x)), np.cos(x) * w)
    _, pullback = mg.vjp(np.sin, on_gpu(x))
    same(pullback(inside)[0], np.cos(x) * w)
    same(mg.jvp(np.sin, (on_gpu(x),), (inside,))[1], np.cos(x) * w)


@pytest.mark.gpu
def test_arrays_of_pytorch_go_in_and_come_out(gpu):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no GPU")
    step = mg.compile(mg.value_and_grad(MEAN))
    args = programs.network(9)
    want = step(*args)

    def late(tree):
        one = torch.ones(4000, 4000, device="cuda")
        for _ in range(20):  # some milliseconds, which the arrays wait for
            one = one @ one / 4000
        return optree.tree_map(lambda a: a * one[0, 0].to(a.dtype), tree)

    given = optree.tree_map(lambda a: torch.as_tensor(a, device="cuda"), args)
    torch.cuda.synchronize()
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
        for f in (step, mg.value_and_grad(MEAN)):
            with torch.cuda.stream(stream):
                same(f(*late(given)), want, 1e-6)
    have = step(*given)
    shared = torch.from_dlpack(have[1]["a"])
    assert shared.data_ptr() == have[1]["a"].data.ptr
    np.testing.assert_allclose(shared.cpu().numpy(), want[1]["a"], rtol=1e-6)


@pytest.mark.gpu
def test_arrays_of_jax_go_in_and_come_out(gpu, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    if jax.devices()[0].platform != "gpu":
        pytest.skip("this JAX has no GPU")
    step = mg.compile(mg.value_and_grad(MEAN))
    args = programs.network(9, "f4")
    want = step(*args)

    @jax.jit
    def late(tree):
        one = jax.numpy.ones((4000, 4000))
        for _ in range(20):  # some milliseconds, which the arrays wait for
            one = one @ one / 4000
        return jax.tree.map(lambda a: a * one[0, 0] if a.dtype.kind == "f" else a, tree)

    given = jax.device_put((args[0], args[1], args[2].astype("i4")))
    for _ in range(2):  # it is compiled in the first one
        for f in (step, mg.value_and_grad(MEAN)):
            same(f(*late(given)), want, 1e-4)
    gradient = step(*late(given))[1]["a"]
    np.testing.assert_allclose(np.asarray(jax.dlpack.from_dlpack(gradient)), want[1]["a"], rtol=1e-3, atol=1e-5)


@on_both
def test_the_same_bits_in_every_run():
    for name in ("training step, float32", "messages, float32", "clipped mean"):
        f, *args = programs.used()[name]
        step, args = mg.compile(f), on_gpu(args)
        first = [on_host(x).tobytes() for x in optree.tree_leaves(step(*args))]
        for _ in range(20):
            assert [on_host(x).tobytes() for x in optree.tree_leaves(step(*args))] == first


@on_both
def test_streams_and_threads_do_not_disturb_each_other():
    import cupy

    step = mg.compile(mg.value_and_grad(MEAN))
    cases = [programs.network(n) for n in (64, 64, 65, 1000)]
    want = [mg.compile(mg.value_and_grad(MEAN), backend="numpy")(*args) for args in cases]
    failures = []

    def work(k):
        try:
            with cupy.cuda.Stream(non_blocking=True) as stream:
                args = on_gpu(cases[k])
                results = [step(*args) for _ in range(30)]
                stream.synchronize()
                for r in results:
                    same(r, want[k])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


@on_both
def test_out_of_memory():
    import cupy

    def product(x):
        terms = np.arange(32.0)
        return np.linalg.norm(np.sin(x[:, None] * terms) @ np.cos(terms[:, None] * x))

    f = mg.compile(product, without=["factorize"])  # which would take the norm without the product
    pool = cupy.get_default_memory_pool()
    with pytest.raises(MemoryError, match="GPU's memory"):
        f(cupy.ones(500_000))
    assert pool.used_bytes() < 2**30
    same(f(cupy.ones(10)), product(np.ones(10)))


@on_both
def test_an_index_out_of_range_is_reported_by_a_later_call():
    import cupy

    f = mg.compile(lambda x, i: x[i] * 2)
    x = cupy.asarray(np.arange(4.0))
    with pytest.raises(IndexError, match=r"test_gpu\.py"):  # noqa: PT012  (which of the two calls, the device decides)
        f(x, cupy.asarray([1, 9]))
        cupy.cuda.Device().synchronize()
        f(x, cupy.asarray([1, 2]))
    same(f(x, cupy.asarray([1, 2])), np.array([2.0, 4.0]))


@pytest.mark.gpu
def test_tf32_is_asked_for_and_is_less_exact(gpu):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 512, 512)).astype("f4")
    exact = a.astype(float) @ b.astype(float)
    error = {p: np.linalg.norm(on_host(mg.compile(np.matmul, backend="cupy", precision=p)(a, b)) - exact)
             / np.linalg.norm(exact) for p in ("highest", "tf32")}
    assert error["highest"] < 2e-6
    assert error["highest"] < error["tf32"] < 1e-2


@on_both
def test_training():
    args = programs.network(200, "f4")
    init, update = mg.optim.adam(0.05)
    step = mg.compile(mg.value_and_grad(MEAN))
    params, x, y = on_gpu(args)
    state = init(params)
    values = []
    for _ in range(30):
        value, gradient = step(params, x, y)
        params, state = update(gradient, state, params)
        values.append(float(value))
    assert values[-1] < values[0]
