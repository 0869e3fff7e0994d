"""Equal indices under other nodes: the checks that one program makes, and another one implies."""

import itertools

import numpy as np

import minigrad as mg
import minigrad.numpy as mnp
from minigrad import interpreters
from minigrad.graph import PRIMITIVES, ArrayType, reachable
from minigrad.ops.checks import checks_of
from minigrad.ops.control import placeholder
from minigrad.ops.equal_checks import missing_checks
from minigrad.ops.index import gather
from minigrad.symbolic import Dim

X = ArrayType((4, 2), np.dtype("f8"))


def missing(before, after, *args):
    """Return the number of checks of one function that another one does not imply."""
    nodes = [mg.trace(f)(*args) for f in (before, after)]
    new = interpreters.substitute(nodes[0].outputs, dict(zip(nodes[0].inputs, nodes[1].inputs, strict=True)))
    wanted, have = (checks_of(reachable(outputs)) for outputs in (new, nodes[1].outputs))
    return len(missing_checks(wanted, have))


def turns(step, start=0.0, **rest):
    return lambda x, i: mg.scan(lambda c, k: (step(c, k, x, i), None), start, i if not rest else None, **rest)[0]


def test_held_graph_checks_indices_as_its_operands():
    v, i = np.ones(4), np.arange(3)
    at = lambda x, i: mnp.sum(mnp.take(x, i))  # noqa: E731
    cases = {
        "checkpoint": mg.checkpoint(at),
        "slices": turns(lambda c, k, x, i: c + at(x, k)),
        "slices backwards": lambda x, i: mg.scan(lambda c, k: (c * 2 + at(x, k), None), 0.0, i, reverse=True)[0],
        "all in each turn": turns(lambda c, k, x, i: c + at(x, i), length=2)}
    for name, f in cases.items():
        assert missing(at, f, v, i) == missing(f, at, v, i) == 0, name
        assert missing(lambda x, i: at(x, i + 1), f, v, i) == missing(f, lambda x, i: at(x, i + 1), v, i) == 1, name
    moved = turns(lambda c, k, x, i: c + at(x, k * 2 - 1))
    assert missing(lambda x, i: at(x, i * 2 - 1), moved, v, i) == 0
    assert missing(moved, lambda x, i: at(x, i * 2 - 1), v, i) == 0


def test_check_under_a_condition_does_not_imply_the_unconditional_one():
    v, i = np.ones(4), np.arange(3)
    at = lambda x, i: mnp.sum(mnp.take(x, i))  # noqa: E731
    never = turns(lambda c, k, x, i: c + at(x, i), length=0)
    first, second = (lambda x, i, k=k: mg.switch(i[0], [[at, lambda x, i: x[0]][k], [lambda x, i: x[0], at][k]], x, i)
                     for k in (0, 1))
    other = lambda x, i: mg.switch(i[1], [at, lambda x, i: x[0]], x, i)  # noqa: E731
    until = lambda x, i: mg.while_loop(lambda s: s < i[0], lambda s: s + 1 + 0 * mnp.take(i, i)[0], 0)  # noqa: E731
    for f in (never, first, second, other, until):
        assert missing(f, f, v, i) == 0
        assert missing(mg.checkpoint(f), f, v, i) == missing(f, mg.checkpoint(f), v, i) == 0
    for f in (never, first, second, other):
        assert missing(at, f, v, i) == 1
    for a, b in itertools.permutations((first, second, other), 2):
        assert missing(a, b, v, i) == 1
    assert missing(lambda x, i: mnp.take(i, i), until, v, i) == 1


def test_equal_loops_have_equal_states():
    v, i = np.ones(4), np.arange(3)

    def loop(a, b, start=(0, 1), keep=lambda s: s, length=5):
        def step(s, _):
            return keep((a(*s[:2]), b(*s[:2]), *s[2:])), mnp.take(v, s[0])

        return lambda x, i: mnp.sum(mg.scan(step, keep((*start, i[0])), None, length=length)[1])

    add, more, twice = (lambda s, t: s + t), (lambda s, t: t + 1), (lambda s, t: t * 2)
    same = loop(add, more)
    assert missing(same, same, v, i) == 0
    assert missing(same, loop(add, more, keep=lambda s: s[:2]), v, i) == 0  # a state that no index depends on
    for other in (loop(add, twice), loop(add, more, (0, 2)), loop(add, more, (1, 1)), loop(more, add), loop(
            add, more, length=6)):
        assert missing(same, other, v, i) == missing(other, same, v, i) == 1


def test_broadcast_index_is_checked_as_its_scalar_unless_empty():
    n = Dim.new("n")
    x, k = placeholder(X), placeholder(ArrayType((), np.dtype("i8")))
    some, any_number, none = (PRIMITIVES["add"](*2 * [PRIMITIVES["expand"](k, shape=(m,), axes=(0,))])
                              for m in (3, n, 0))
    for a, b in itertools.permutations((some, any_number, none), 2):
        assert len(missing_checks(checks_of([gather(x, a)]), checks_of([gather(x, b)]))) == 1
    alone = checks_of([gather(x, PRIMITIVES["add"](k, k))])
    assert not missing_checks(checks_of([gather(x, some)]), alone)
