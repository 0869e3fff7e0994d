"""Arrays that are written to while they are traced: the values, views and errors of NumPy."""

import copy

import numpy as np
import pytest

import minigrad as mg

VIEWS = [
    lambda x, r: x[r.integers(len(x))] if x.ndim > 1 else x[r.integers(len(x)):],
    lambda x, r: x[1:], lambda x, r: x[::-1], lambda x, r: x[..., ::2], lambda x, r: x[None], lambda x, r: x.T,
    lambda x, r: x.reshape(-1), lambda x, r: x.ravel(), lambda x, r: np.swapaxes(x, 0, -1),
    lambda x, r: np.atleast_2d(x),
    lambda x, r: np.squeeze(x), lambda x, r: np.expand_dims(x, -1), lambda x, r: np.moveaxis(x, 0, -1),
    lambda x, r: np.flip(x), lambda x, r: x.transpose(), lambda x, r: np.split(x, [1])[1], lambda x, r: np.asarray(x),
    lambda x, r: x.copy(), lambda x, r: np.array(x), lambda x, r: x.flatten(), lambda x, r: 2 * x, lambda x, r: +x,
    lambda x, r: x[[0, -1]], lambda x, r: x.astype(float), lambda x, r: np.copy(x), lambda x, r: copy.copy(x),
    lambda x, r: copy.deepcopy(x), lambda x, r: np.broadcast_to(x, x.shape).copy(), lambda x, r: np.diag(np.diag(x))
    if x.ndim == 2 else x, lambda x, r: np.concatenate([x, x]), lambda x, r: np.where(x > 0, x, 0.0)]


def write_element(x, y, r):
    x[tuple(r.integers(n) for n in x.shape)] = y.ravel()[0]


def write_row(x, y, r):
    x[r.integers(len(x))] = y.sum()


def write_slice(x, y, r):
    x[r.integers(len(x)):] = y.ravel()[-1] * 0.5


def add_to_all(x, y, r):
    x += y.mean()


def scale_part(x, y, r):
    x[..., :1] *= np.tanh(y.max())


def write_mask(x, y, r):
    x[x < 0] = 0.25


def scale_selected(x, y, r):
    x[x > 0] *= 1.5


def write_selected(x, y, r):
    below = x < y.mean()
    x[below] = np.cumsum(x[below])


def write_twice(x, y, r):
    x[[0, 0, -1]] = y.min()


def add_at(x, y, r):
    np.add.at(x, [0, 0], y.mean())


def fill(x, y, r):
    x[0].fill(y.ravel()[0]) if x.ndim > 1 else None


def write_number(x, y, r):
    x[-1] = 1.5


WRITES = [write_element, write_row, write_slice, add_to_all, scale_part, write_mask, scale_selected, write_selected,
          write_twice, add_at, fill, write_number]


def program(seed, x, c):
    """Return the arrays that random views and writes leave: of `x`, which is traced, and of an array of numbers."""
    r = np.random.default_rng(seed)
    pool = [x.copy(), np.zeros(c.shape) + c]
    for _ in range(14):
        source = pool[r.integers(len(pool))]
        if r.random() < 0.5:
            made = VIEWS[r.integers(len(VIEWS))](source, r)
            if made.size and made.ndim and made.size <= 40:
                pool.append(made)
        else:
            WRITES[r.integers(len(WRITES))](source, pool[r.integers(len(pool))], r)
    return tuple(pool)


UNSURE = (47, 143)
X, C = np.array([[0.5, -1.5, 2.5], [1.0, 0.25, -0.75]]), np.array([[2.0, -0.5], [0.0, 1.0], [3.0, -2.0]])


@pytest.mark.parametrize("seed", range(150))
def test_random_writes_reach_the_views_that_they_reach_in_numpy(seed):
    def f(x):
        return program(seed, x, C)

    expected = f(X)
    if seed in UNSURE:
        with pytest.raises(mg.TraceError, match="depends on the order"):
            mg.trace(mg.numpy_code(f))(X)
        return
    results = mg.trace(mg.numpy_code(f))(X)(X)
    assert len(results) == len(expected)
    for ours, numpys in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours, numpys, atol=1e-12)


def agrees(f, *args):
    """Check a function of NumPy code that is traced, and that is compiled, against NumPy itself."""
    expected = f(*args)
    for ours in (mg.trace(mg.numpy_code(f))(*args)(*args), mg.compile(mg.numpy_code(f))(*args)):
        for a, b in zip(ours, expected, strict=True) if isinstance(expected, tuple) else [(ours, expected)]:
            np.testing.assert_allclose(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_numbers_of_an_array_are_no_views():
    def f(x):
        y = x * 1.0
        first = y[0]
        y[0] = 5.0
        return first, y

    agrees(f, np.array([1.0, 2.0]))


def test_assignment_casts_to_the_dtype_of_the_array():
    def f(x):
        counts = np.zeros(3, dtype=int)
        counts[1] = x[0]
        small = np.ones(2, np.float32)
        small[:] = x
        return counts, small

    agrees(f, np.array([2.75, -1.5]))


def test_traced_places():
    def f(x, i, j):
        y = np.zeros(4)
        y[i] = x[0]
        y[[0, 3]] += x[1]
        y[y > 1] = x[2]
        z = np.zeros((2, 4))
        z[1][j] = 2 * x[0]
        z[0] = y
        return y, z

    agrees(f, np.array([0.5, 2.0, 3.0]), 2, 1)


def test_known_arrays_run_on_numpy():
    def f(x):
        grid = np.zeros((2, 2))
        grid[0] = [1.0, 2.0]
        n = int(grid[0, 1]) + len(np.unique(grid))  # NumPy has no function of traced values for this
        if grid.any() and grid[0, 0] == 1.0 and 2.0 in grid:
            n += 1
        return x * n, np.arange(n)[::-1] * x[0]

    agrees(f, np.array([1.5, 2.5]))


def test_in_place_operators_refuse_what_numpy_refuses():
    def into_integers(x):
        counts = np.zeros(2, dtype=int)
        counts += x
        return counts

    def wider(x):
        y = np.zeros(2)
        y += np.ones((3, 2)) * x
        return y

    def too_long(x):
        y = np.zeros(2)
        y[:] = np.concatenate([x, x])
        return y

    x = np.ones(2)
    for f, kind, said in ((into_integers, mg.DtypeError, r"\+= of int64 and float64"),
                          (wider, mg.ShapeError, r"an array keeps its shape"),
                          (too_long, mg.ShapeError, r"f64\[4\] to elements of shape \[2\]")):
        with pytest.raises((TypeError, ValueError)):
            f(x)
        with pytest.raises(kind, match=rf"test_mutable_array\.py:\d+: .*{said}"):
            mg.trace(mg.numpy_code(f))(x)


def test_whether_a_reshaped_transposed_result_is_a_view_is_refused():
    def f(x):
        y = x.T * 2
        z = y.ravel()
        y[0] = 0.0
        return z

    with pytest.raises(mg.TraceError, match=r"np\.ravel has reshaped.*x\.copy\(\)"):
        mg.trace(mg.numpy_code(f))(np.ones((2, 3)))

    def copied(x):
        y = x.T * 2
        z = y.copy().ravel()
        y[0] = 0.0
        return z

    agrees(copied, np.ones((2, 3)))


def test_an_argument_that_is_written_to_keeps_its_value_outside():
    def f(x):
        x -= x.mean()
        return np.sum(x**4)

    x = np.array([1.0, 2.0, 4.0])
    gradient = mg.grad(mg.numpy_code(f))(x)
    assert x.tolist() == [1.0, 2.0, 4.0]
    np.testing.assert_allclose(gradient, mg.grad(lambda x: np.sum((x - x.mean()) ** 4))(x))


def test_symbolic_sizes_stay_symbolic_under_whole_writes():
    def f(x):
        y = np.zeros(x.shape)
        y[...] = 2 * x
        y += 1
        return y

    graph = mg.trace(mg.numpy_code(f))(mg.f64[mg.dim("n")])
    np.testing.assert_allclose(graph(np.arange(3.0)), 2 * np.arange(3.0) + 1)


def test_flat_reads_and_writes_in_order():
    def f(x):
        A = np.zeros((2, 3))
        A.T.flat[1] = x[0]
        A.flat[3:] = x
        B = np.empty((3, 2))
        B.flat = A.T
        B.flat = B.flat
        return A, B, A.flat[4], np.array([len(A.flat), sum(A.flat)]) * x[0]

    agrees(f, np.array([3.0, -1.0, 2.0]))


def test_assignment_to_a_shape_is_refused():
    def f(x):
        y = 2 * x
        y.shape = (1, 2)
        return y

    with pytest.raises(mg.TraceError, match=r"\.py:\d+: assignment to the shape.*x\.reshape\(shape\)"):
        mg.trace(mg.numpy_code(f))(np.ones(2))


# Each writes into `y`, or reads it, with `x` traced.
METHODS = {
    "fill": lambda y, x: y.fill(x[0]), "fill a number": lambda y, x: y.fill(7.0), "sort": lambda y, x: y.sort(),
    "sort a view": lambda y, x: y[::-1].sort(), "partition": lambda y, x: y.partition([0, 1, 2, 3]),
    "put": lambda y, x: y.put([0, 2], x[:2]), "put numbers": lambda y, x: y.put([0, -1], [9.0, 8.0]),
    "put too few": lambda y, x: y.put([0, 1, 2], x[:2]), "put one": lambda y, x: np.put(y, 1, x[3]),
    "put wrapped": lambda y, x: y.put([5], x[:1], mode="wrap"),
    "put nowhere": lambda y, x: y.put([], x[:1]), "put nothing": lambda y, x: y.put([1, 2], x[:0]),
    "putmask of nothing": lambda y, x: np.putmask(y, y > 1, x[:0]),
    "put clipped": lambda y, x: y.put([55], 2.0, mode="clip"),
    "put at a traced place": lambda y, x: y.put(np.argmax(x), 5.0), "place": lambda y, x: np.place(y, y > 1, x[:2]),
    "place numbers": lambda y, x: np.place(y, y > 1, [5.0, 6.0]), "putmask": lambda y, x: np.putmask(y, y > 1, x),
    "putmask repeated": lambda y, x: np.putmask(y, y < 1, x[:3]), "view": lambda y, x: y.view().fill(x[1]),
    "nonzero": lambda y, x: x[np.array([0, 1, 0, 2]).nonzero()], "tobytes": lambda y, x: len(np.ones(2).tobytes()) * x,
    "setflags": lambda y, x: np.ones(2).setflags(write=False), "clip": lambda y, x: y.clip(0, 1, y),
    "np.clip": lambda y, x: np.clip(x, 0, 1, y), "cumsum": lambda y, x: x.cumsum(0, None, y),
    "mean": lambda y, x: np.outer(x, x).mean(0, None, y), "round": lambda y, x: np.round(x, 0, y),
    "matmul": lambda y, x: np.matmul(np.eye(4), x, out=y), "take": lambda y, x: np.take(x, [3, 2, 1, 0], out=y),
    "a ufunc": lambda y, x: np.exp(x, y), "an operand": lambda y, x: np.add(y, x, out=y),
    "overlapping views": lambda y, x: np.add(y[1:], x[0], out=y[:-1]),
    "broadcast": lambda y, x: np.add(x[0], 1.0, out=y),
    "where": lambda y, x: np.log(x, out=y, where=x > 0), "where known": lambda y, x: np.multiply(
        y, 2.0, out=y, where=np.array([True, False, True, False])),
    "where of a sum": lambda y, x: np.sum(np.outer(x, x), axis=0, where=[[True], [False], [True], [True]], out=y),
    "divmod": lambda y, x: np.divmod(x, 2.0, out=(y, None))[1], "modf": lambda y, x: np.modf(x, y, np.zeros(4))[1],
    "reduce": lambda y, x: np.add.reduce(np.outer(x, x), axis=0, out=y),
    "unbound": lambda y, x: np.ndarray.sort(y), "unbound mean": lambda y, x: np.ndarray.mean(y)}


def known(x):
    y = np.array([3.0, 1.0, 2.0, 0.5])
    return y, y


def mixed(x):
    y = np.array([3.0, 1.0, 2.0, 0.5])
    y[1] = x[0]
    return y, y


def traced(x):
    y = x * 1.0
    return y, y


def row(x):
    A = np.zeros((2, 4))
    A[1] = x
    return A, A[1]


def column(x):
    A = np.outer(x, [1.0, 2.0, 3.0])
    return A, A[:, 1]


def reversed_row(x):
    A = np.arange(8.0).reshape(2, 4)[:, ::-1]
    return A, A[1]


@pytest.mark.parametrize("make", [known, mixed, traced, row, column, reversed_row])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_methods_and_outputs_write_where_numpy_does(method, make):
    def f(x):
        whole, y = make(x)
        result = METHODS[method](y, x)
        return (whole, y, x.sum()) if result is None else (whole, y, result)

    agrees(f, np.array([2.5, -1.5, 0.25, 3.0]))


def test_put_reaches_an_array_in_any_order():
    def f(x):
        A = np.zeros((3, 2))
        np.put(A.T, [0, 1, 5], x[:2])
        A.T.put([2], x[3])
        B = np.arange(6.0).reshape(2, 3).T
        np.place(B, B > 2, x[:2])
        return A, B

    agrees(f, np.array([2.5, -1.5, 0.25, 3.0]))


def test_masked_outputs_have_no_gradient_where_they_are_masked():
    def f(x):
        return np.sum(np.divide(1.0, x, out=np.zeros_like(x), where=x != 0) + np.log(x, out=np.zeros(3), where=x > 0))

    x = np.array([2.0, 0.0, -4.0])
    np.testing.assert_allclose(mg.grad(mg.numpy_code(f))(x), [-1 / 4 + 1 / 2, 0.0, -1 / 16])


def test_outputs_keep_their_dtype():
    def f(x):
        return np.add(x, 1.0, out=np.zeros(2, int))

    with pytest.raises(TypeError, match="same_kind"):
        f(np.ones(2))
    with pytest.raises(mg.DtypeError, match=r"test_mutable_array\.py:\d+: out=: NumPy does not write float64 into an "
                                            r"array of int64"):
        mg.trace(mg.numpy_code(f))(np.ones(2))


def test_resizing_in_place_is_refused_and_its_way_out_works():
    def f(x):
        y = x * 2
        y.resize(3, refcheck=False)
        return y

    def copied(x):
        y = np.zeros(3)
        y[:len(x)] = x * 2
        return y

    with pytest.raises(mg.TraceError, match=r"\.py:\d+: resize of an array in place.*y\[:len\(x\)\] = x"):
        mg.trace(mg.numpy_code(f))(np.ones(2))
    agrees(copied, np.ones(2))
