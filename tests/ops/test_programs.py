"""Whole programs drawn at random: what holds of each primitive holds of what is made of them."""

import array_api_strict
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minigrad import interpreters
from minigrad.graph import PRIMITIVES as P
from minigrad.graph import ArrayType, Graph
from minigrad.ops.control import parts
from minigrad.ops.matrices import transposed
from minigrad.ops.sort import sort
from tests import checks

RNG = np.random.default_rng(0)
ARRAYS = [RNG.normal(size=(3, 2)), RNG.normal(size=(3,)), RNG.normal(size=()), np.array([2, 0, -1, 1]),
          np.array([True, False, True])]
LIMIT = 40  # elements of a value


def unary(name):
    return lambda draw, x, pool: P[name](x)


def binary(name):
    def make(draw, x, pool):
        return P[name](x, draw(st.sampled_from([n for n in pool if n.shape == x.shape])))

    return make


def reduced(name):
    def make(draw, x, pool):
        return P[name](x, axes=tuple(draw(st.sets(st.integers(0, x.ndim - 1), min_size=1)))) if x.ndim else None

    return make


def expand(draw, x, pool):
    shape = [*x.shape]
    at = draw(st.integers(0, x.ndim))
    shape.insert(at, draw(st.integers(1, 3)))
    return P["expand"](x, shape=tuple(shape), axes=(at,)) if np.prod(shape) <= LIMIT else None


def transpose(draw, x, pool):
    return P["transpose"](x, perm=tuple(draw(st.permutations(range(x.ndim)))))


def ravel(draw, x, pool):
    return P["reshape"](x, shape=(int(np.prod(x.shape)),))


def cut(draw, x, pool):
    start = tuple(draw(st.integers(0, n)) for n in x.shape)
    stop = tuple(draw(st.integers(a, n)) for a, n in zip(start, x.shape, strict=True))
    return P["slice"](x, start=start, stop=stop, step=tuple(draw(st.integers(1, 2)) for _ in x.shape))


def pad(draw, x, pool):
    low, high, interior = (tuple(draw(st.integers(0, 1)) for _ in x.shape) for _ in range(3))
    out = P["pad"](x, low=low, high=high, interior=interior)
    return out if np.prod(out.shape) <= LIMIT else None


def along(name):
    def make(draw, x, pool):
        return P[name](x, axis=draw(st.integers(0, x.ndim - 1))) if x.ndim else None

    return make


def joined(draw, x, pool):
    axis = draw(st.integers(0, x.ndim - 1)) if x.ndim else None
    return P["concatenate"](x, x, axis=axis) if x.ndim and 2 * np.prod(x.shape) <= LIMIT else None


def sorted_(draw, x, pool):
    # Of distinct values, in a fixed order near the point: differences would see a tie.
    return sort(x, draw(st.integers(0, x.ndim - 1))) if x.ndim and x.prim.name == "input" else None


def gathered(draw, x, pool):
    return P["gather"](x, pool.index) if x.ndim and x.shape[0] == 3 and np.prod(x.shape) * 4 / 3 <= LIMIT else None


def scattered(draw, x, pool):
    return P["scatter_add"](x, pool.index, shape=(3, *x.shape[1:])) if x.ndim and x.shape[0] == 4 else None


def chosen(draw, x, pool):
    others = [n for n in pool if n.shape == x.shape]
    return P["where"](pool.mask, x, draw(st.sampled_from(others))) if x.shape == (3,) else None


def multiplied(draw, x, pool):
    y = draw(st.sampled_from(list(pool)))
    letters = "abcdef"
    right = letters[3:3 + y.ndim]
    if x.ndim and y.ndim and x.shape[-1] == y.shape[0]:
        right = letters[x.ndim - 1] + right[1:]
    out = "".join(c for c in letters[:x.ndim] + right if (letters[:x.ndim] + right).count(c) == 1)
    node = P["einsum"](x, y, subscripts=f"{letters[:x.ndim]},{right}->{out}") if x.ndim <= 3 and y.ndim <= 3 else None
    return node if node is not None and np.prod(node.shape) <= LIMIT else None


def gram_eigenvalues(draw, x, pool):
    if x.ndim != 2 or x.prim.name != "input":
        return None
    gram = P["einsum"](x, x, subscripts="ij,ik->jk")
    return parts(P["eigh"]((gram + transposed(gram)) * 0.5))[0]


def checkpointed(draw, x, pool):
    a = checks.placeholder(x.shape, x.dtype)
    return parts(P["checkpoint"](x, graph=Graph((a,), (P["mul"](P["sin"](a), a),))))[0]


STEPS = [*map(unary, ("sin", "tanh", "arctan", "neg")), *map(binary, ("add", "sub", "mul", "logaddexp")),
         *map(reduced, ("sum", "mean")), expand, transpose, ravel, cut, pad, along("cumsum"), joined, sorted_, gathered,
         scattered, chosen, multiplied, gram_eigenvalues, checkpointed]


class Pool(list):
    """The floating values so far, and the index and the mask that some steps use."""


@st.composite
def programs(draw, steps=8, arrays=ARRAYS):
    inputs = [checks.placeholder(a.shape, a.dtype) for a in arrays]
    pool = Pool(inputs[:3])
    pool.index, pool.mask = inputs[3:]
    for _ in range(draw(st.integers(1, steps))):
        x = draw(st.sampled_from(pool))
        node = draw(st.sampled_from(STEPS))(draw, x, pool)
        if node is not None and 0 not in node.shape:
            pool.append(P["tanh"](node))  # keeps the numbers small
    return Graph(tuple(inputs), tuple(pool[-2:])).check()


@given(programs())
def test_first_order(graph):
    checks.check_types(graph, ARRAYS)
    checks.check_gradient(graph, ARRAYS)
    checks.check_duality(graph, ARRAYS)
    checks.check_json(graph, ARRAYS)


SINGLE = [a.astype("f4") if a.dtype.kind == "f" else a for a in ARRAYS]


@given(programs(arrays=SINGLE))
def test_every_node_has_its_type_and_float32_stays(graph):
    for g in (graph, checks.reverse(graph), checks.push(graph)):
        inner = Graph(g.inputs, tuple(n for n in g.nodes if isinstance(n.type, ArrayType)))
        checks.check_types(inner, [*SINGLE, *checks.random_like(g.inputs[len(SINGLE):])])
        assert not any(n.dtype == np.float64 for n in inner.outputs)


@given(programs())
def test_other_namespace(graph):
    for g in (graph, checks.reverse(graph)):
        checks.check_namespace(g, [*ARRAYS, *checks.random_like(g.inputs[len(ARRAYS):])], array_api_strict, 1e-10)


@given(programs(5))
def test_second_order(graph):
    back = checks.reverse(graph)
    arrays = [*ARRAYS, *checks.random_like(graph.outputs)]
    checks.check_gradient(back, arrays, 1e-5)
    checks.check_duality(back, arrays)


@given(programs())
def test_batch(graph):
    checks.check_batch(graph, ARRAYS)


@given(programs(5))
def test_batch_of_the_gradient_and_gradient_of_the_batch(graph):
    seeds = checks.random_like(graph.outputs)
    checks.check_batch(checks.reverse(graph), [*ARRAYS, *seeds])
    mapped = [True] * len(ARRAYS)
    one_way = checks.reverse(checks.batched(graph, mapped, 3))
    other_way = checks.batched(checks.reverse(graph), [True] * (len(ARRAYS) + len(seeds)), 3)
    arrays = [checks.examples(a, 3) for a in [*ARRAYS, *seeds]]
    for a, b in zip(interpreters.evaluate(one_way, arrays), interpreters.evaluate(other_way, arrays), strict=True):
        checks.close(a, b, "grad of vmap and vmap of grad")
