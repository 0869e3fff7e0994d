"""``scipy.special`` on traced values: by SciPy's own ufuncs, and by the names in ``minigrad.special``."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.special as sp

import minigrad as mg
from minigrad import special
from minigrad.graph import PRIMITIVES
from minigrad.numpy.dispatch import SCIPY
from minigrad.traced_array import Array

from .conform import assert_same, call, check_call, run_traced

rng = np.random.default_rng(6)
X = rng.uniform(-2, 2, (2, 3))
Y = rng.uniform(0.2, 0.9, (2, 3))
DOMAIN = {"logit": Y, "erfinv": Y, "erfcinv": 2 * Y, "ndtri": Y, "gammaln": 3 * Y, "gamma": 3 * Y, "digamma": 3 * Y,
          "psi": 3 * Y, "entr": Y, "expi": Y, "exp1": Y, "spence": Y, "log1p": Y}
UNARY = sorted(n for n in SCIPY if getattr(sp, n).nin == 1)
BINARY = sorted(n for n in SCIPY if getattr(sp, n).nin == 2)


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    x = DOMAIN.get(name, X)
    check_call(getattr(sp, name), call(x))
    check_call(getattr(sp, name), call(x.astype("f4")))
    check_call(getattr(sp, name), call(x[0, 0].copy()))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    for x, y in ((Y, Y[:, :1] + 0.3), (Y, 1.2 * Y[0]), (Y[0].astype("f4"), Y.astype("f4")), (1.1 * Y[0, 0], Y)):
        check_call(getattr(sp, name), call(x, y))
    check_call(getattr(sp, name), call(Y, 2.0))
    check_call(getattr(sp, name), call(2, Y))


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_dtypes(name):
    """The dtype of floats is SciPy's; bools and integers are float64's, where SciPy's versions differ."""
    ufunc = getattr(sp, name)
    for dtypes in itertools.product(("?", "u1", "i2", "i4", "f4", "f8"), repeat=ufunc.nin):
        arrays = [np.array([1, 0, 1]).astype(d) for d in dtypes]
        with np.errstate(all="ignore"):
            want = ufunc(*arrays).dtype if all(d[0] == "f" for d in dtypes) else np.dtype(np.float64)
        assert run_traced(lambda *xs, ufunc=ufunc: [ufunc(*xs)], *arrays)[0].dtype == want, dtypes


SPECIAL = np.array([0.0, -0.0, 0.5, 1.0, -1.0, 30.0, -30.0, 800.0, -800.0, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("name", UNARY)
def test_special_values(name):
    with np.errstate(all="ignore"):
        want = getattr(sp, name)(SPECIAL)
    (have,) = run_traced(lambda x: [getattr(sp, name)(x)], SPECIAL)
    np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "rel_entr", "kl_div", "huber"])
def test_special_values_of_pairs(name):
    a, b = map(np.ravel, np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        want = getattr(sp, name)(a, b)
    (have,) = run_traced(lambda a, b: [getattr(sp, name)(a, b)], a, b)
    np.testing.assert_allclose(have, want, rtol=1e-12)


def test_functions():
    m = rng.normal(size=(3, 4))
    for name in ("logsumexp", "softmax", "log_softmax"):
        for axis in (None, 0, -1, (0, 1)):
            check_call(getattr(sp, name), call(m, axis=axis), traced=getattr(special, name))
        check_call(getattr(sp, name), call(m.astype("f4"), axis=1), traced=getattr(special, name))
    check_call(sp.logsumexp, call(m, axis=1, keepdims=True), traced=special.logsumexp)
    check_call(sp.logsumexp, call(m, axis=1, b=np.array([1.0, 2.0, 0.5, 0.0])), traced=special.logsumexp)
    check_call(sp.logsumexp, call(m, axis=1, b=rng.normal(size=4), return_sign=True), traced=special.logsumexp)
    check_call(sp.multigammaln, call(3 + Y[0, 0], 3), traced=special.multigammaln)
    check_call(lambda x: np.log1p(np.exp(x)), call(X), traced=special.softplus)
    for n in range(4):
        check_call(sp.polygamma, call(n, 3 * Y), traced=special.polygamma)


def test_log_probabilities_of_zero_probability():
    x = np.array([-np.inf, -np.inf])
    (value,) = run_traced(lambda x: [special.logsumexp(x)], x)
    assert value == -np.inf
    np.testing.assert_array_equal(mg.grad(special.logsumexp)(x), [0.5, 0.5])  # as of any two equal numbers
    np.testing.assert_array_equal(mg.grad(special.logsumexp)(np.array([np.inf, 3.0, np.inf])), [0.5, 0.0, 0.5])
    np.testing.assert_allclose(mg.grad(special.logsumexp)(np.array([-np.inf, 3.0])), [0.0, 1.0])
    np.testing.assert_allclose(mg.grad(special.logsumexp)(np.array([1000.0, 1000.0])), [0.5, 0.5])


def test_exponentials_of_nothing():
    """A sum without terms is 0, for one array and for an example without rows, as in SciPy 1.15, JAX and PyTorch."""
    word = mg.axis("word")
    lengths = (0, 2, 0, 1)
    batch = mg.batch([np.arange(float(n)) for n in lengths], mg.f64[word])

    def attention(x):
        return special.softmax(x[:, None] * x[None], axis=1).sum()

    for f, none, want in ((special.logsumexp, -np.inf, [-np.inf, np.log(1 + np.e), -np.inf, 0.0]),
                          (lambda x: special.softmax(x).sum(), 0.0, [0.0, 1.0, 0.0, 1.0]),
                          (lambda x: special.log_softmax(x).sum(), 0.0, [0, 1 - 2 * np.log(1 + np.e), 0, 0]),
                          (attention, 0.0, [0.0, 2.0, 0.0, 1.0])):
        assert f(np.zeros(0)) == none
        assert mg.grad(f)(np.zeros(0)).shape == (0,)
        mapped = mg.vmap(f)
        for run in (mapped, *(mg.compile(mapped, backend=b) for b in ("numpy", "native"))):
            np.testing.assert_allclose(run(batch), want, rtol=1e-12)
    assert special.logsumexp(np.zeros((0, 3)), axis=0).tolist() == [-np.inf] * 3
    assert special.softmax(np.zeros((2, 0, 0)), axis=-1).shape == (2, 0, 0)


def test_gradients_make_few_passes_over_the_data():
    """Of the size of the data: no choice, and one division at most."""
    for f in (lambda x: special.logsumexp(x, axis=1).sum(), lambda x: (special.softmax(x, axis=1) ** 2).sum()):
        entry = mg.compile(mg.grad(f), backend="numpy").build(np.zeros((30, 40)))
        graph = next(s.before for s in entry.stages if s.name == "fuse")
        wide = [n.prim.name for n in graph.nodes if n.ndim == 2]
        assert "where" not in wide
        assert wide.count("div") <= 1
        assert wide.count("exp") + wide.count("exp_of_difference") == 1


def test_slopes_at_the_edge_of_the_domain():
    g = mg.vmap(mg.grad(lambda x, y: sp.xlogy(x, y), (0, 1)))(np.zeros(2), np.array([0.0, 2.0]))
    np.testing.assert_allclose(g[0], [-np.inf, np.log(2)])
    np.testing.assert_array_equal(g[1], [0.0, 0.0])
    np.testing.assert_allclose(mg.grad(lambda x: sp.expit(x))(-800.0), 0.0)
    assert mg.grad(lambda x: sp.log_expit(x))(-800.0) == 1.0
    np.testing.assert_allclose(mg.grad(lambda x: sp.expit(x))(40.0), np.exp(-40.0), rtol=1e-12)
    np.testing.assert_allclose(mg.grad(lambda x: sp.log_ndtr(x))(-30.0), 30.03, rtol=1e-3)
    for f, slope in ((sp.i1, 0.5), (sp.j1, 0.5), (sp.i1e, 0.5), (sp.i0, 0.0)):
        assert mg.grad(lambda x, f=f: f(x))(0.0) == slope


def test_functions_of_plain_arrays_equal_scipys():
    np.testing.assert_allclose(special.erf(X), sp.erf(X))
    assert_same(special.logsumexp(X, axis=1), sp.logsumexp(X, axis=1))
    assert isinstance(special.expit(0.3), float)
    assert "erf" in dir(special)
    with pytest.raises(AttributeError, match="it has"):
        special.no_such_function  # noqa: B018


def test_refused_functions_name_an_alternative():
    for f, match in ((lambda x: sp.logsumexp(x), r"scipy\.special\.logsumexp.*minigrad\.special\.logsumexp"),
                     (lambda x: sp.softmax(x), r"minigrad\.special\.softmax"),
                     (lambda x: sp.polygamma(1, x), r"minigrad\.special\.polygamma"),
                     (lambda x: sp.jv(2.0, x), r"scipy\.special\.jv of a traced value"),
                     (lambda x: sp.gammainc(x, x), r"scipy\.special\.gammainc.*elementary"),
                     (lambda x: sp.erf(x, where=x > 0), "np.where"), (lambda x: special.polygamma(x, x), "ordinary "
                                                                                                         "int")):
        with pytest.raises(mg.TraceError, match=match):
            mg.trace(f)(X)


def test_tracing_and_differentiating_need_no_scipy():
    code = ("import sys; sys.modules['scipy'] = None\n"
            "import numpy as np, minigrad as mg\n"
            "from minigrad import special\n"
            "print(special.expit(0.0), special.logsumexp(np.zeros(1)), special.softmax(np.zeros(2)))\n"
            "graph = mg.trace(mg.grad(lambda x: special.erf(x) + special.gammaln(x)))(mg.f64[()])\n"
            "print(graph.count('digamma'))\n"
            "try: special.erf(0.5)\n"
            "except mg.MinigradError as error: print(error)\n")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["0.5 0.0 [0.5 0.5]", "1", "erf is evaluated by SciPy, which is not installed: "
                                                         "pip install scipy"]


def test_i0_keeps_float16():
    x = np.array([0.5, 1.0], np.float16)
    want = sp.i0(x.astype(float)).astype(np.float16)  # NumPy's own float16 is off by a place
    np.testing.assert_array_equal(mg.compile(np.i0)(x), want, strict=True)


@pytest.mark.parametrize(("n", "x", "ratio"), [
    (1, 6.0, 0.08116464020004915), (1, 6.5, 0.07520164877278072), (2, 3.0, 0.14607054367223143),
    (3, 3.0, 0.14100120720198717), (3, 3.2, 0.134350255125115)])
def test_ratios_of_repeated_integrals_of_erfc_where_the_continued_fraction_begins(n, x, ratio):
    """The numbers are those of mpmath's quadrature with 40 digits."""
    have = mg.vmap(lambda x: Array(PRIMITIVES["erfcx_ratios"](x._node, n=n)))(np.array([x]))
    np.testing.assert_allclose(have, [ratio], rtol=2e-14)
