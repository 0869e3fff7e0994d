"""Products of blocks: NumPy's numbers for every pattern, size of tile and length, within the captured graph."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.cupy.block_einsum import Blocks
from minigrad.backends.cupy.program import Program
from minigrad.graph import Graph
from minigrad.ops.block_einsum import block_einsum
from minigrad.primitive import on_host
from minigrad.symbolic import Dim

from ...passes.programs import input_
from . import cupy_on_numpy, programs
from .failures import Failures
from .programs import Nowhere, close

# Subscripts, the ragged ones, what the operands are, and the sizes of the others.
PATTERNS = [
    ("id,jd->ij", "ij", ("packed", "packed"), {"d": 5}),
    ("ij,jd->id", "ij", ("packed", "packed"), {"d": 37}),
    ("ij,id->jd", "ij", ("packed", "packed"), {"d": 4}),
    ("ji,jd->id", "ij", ("packed", "packed"), {"d": 4}),
    ("idh,jdh->ijh", "ij", ("packed", "packed"), {"d": 3, "h": 2}),
    ("ijh,jdh->ihd", "ij", ("packed", "packed"), {"d": 3, "h": 2}),
    ("ijh,ihd->jdh", "ij", ("packed", "packed"), {"d": 3, "h": 2}),
    ("ij,jk->ik", "ijk", ("packed", "packed"), {}),
    ("ia,ib->ab", "i", ("packed", "packed"), {"a": 3, "b": 18}),
    ("ia,ab->ib", "i", ("packed", "shared"), {"a": 20, "b": 7}),
    ("ab,ib->ia", "i", ("stacked", "packed"), {"a": 3, "b": 17}),
    ("iab,bc->aic", "i", ("packed", "shared"), {"a": 3, "b": 2, "c": 4}),
    ("ij,ij->i", "ij", ("packed", "packed"), {}),
]
LENGTHS = ([3, 1, 0, 17], [0, 0], [1], [33, 16, 70], [])


def rows_of(term, ragged, lengths):
    """Return the rows of each example of an operand that is packed along a term's ragged subscripts."""
    out = np.ones(len(next(iter(lengths.values()))), np.int64)
    for c in (c for c in term if c in ragged):
        out = out * lengths[c]
    return out


def build(subscripts, ragged, kinds, dense, dtype, hint, device):
    """Return a product as a program, and its symbols: the examples, and the rows of each packed array."""
    examples = Dim.new("examples", 8)
    rows = {}

    def array(term, kind):
        own = "".join(c for c in term if c in ragged)
        first = {"packed": (own and rows.setdefault(own, Dim.new(f"rows_{own}", 8 * hint ** len(own), rows=True)),),
                 "stacked": (examples,), "shared": ()}[kind]
        return (*first, *(dense[c] for c in term if c not in ragged))

    terms, out = subscripts.split("->")[0].split(","), subscripts.split("->")[1]
    inputs = [input_(*array(t, kind), dtype=dtype) for t, kind in zip(terms, kinds, strict=True)]
    lengths = [input_(examples, dtype="i8") for _ in ragged]
    size = array(out, "packed" if any(c in ragged for c in out) else "stacked")[0]
    made = block_einsum(*inputs, *lengths, subscripts=subscripts, ragged=ragged, kinds=kinds, size=size)
    return Program(Graph((*inputs, *lengths), (made,)), device=device), made, examples, rows


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i4"])
def test_products_are_numpys(device, monkeypatch, dtype):
    monkeypatch.setattr(cupy_on_numpy.POOL, "poison", 0xFF)  # NaN
    rng = np.random.default_rng(0)
    cases = {"f8": [(p, 25) for p in PATTERNS], "f4": [(p, hint) for p in PATTERNS[:3] for hint in (6, 25, 100)]}
    jobs = [(p, *build(*p, dtype, hint, device)) for p, hint in cases.get(dtype, cases["f8"][:5])]
    assert dtype != "f4" or {(Blocks(j[2]).rows, Blocks(j[2]).columns) for j in jobs} >= {
        (1, 1), (2, 2), (4, 4), (1, 4), (4, 1), (2, 4)}
    with Failures() as failures:
        for (subscripts, ragged, kinds, dense), program, node, examples, rows in jobs:
            assert not program.plan.notes
            for sizes in LENGTHS:
                lengths = {c: np.array(sizes[::-1] if k == 1 else sizes, np.int64) for k, c in enumerate(ragged)}
                totals = {own: int(rows_of(own, ragged, lengths).sum()) for own in rows}
                own_sizes = {examples.symbol: len(sizes), **{d.symbol: totals[own] for own, d in rows.items()}}
                arrays = []
                for term, kind in zip(subscripts.split("->")[0].split(","), kinds, strict=True):
                    own = "".join(c for c in term if c in ragged)
                    first = {"packed": (totals.get(own),), "stacked": (len(sizes),), "shared": ()}[kind]
                    arrays.append((rng.normal(size=(*first, *(dense[c] for c in term if c not in ragged))) * 3
                                   ).astype(dtype))
                exact = [a.astype("f8") for a in arrays] if dtype[0] == "f" else arrays
                with failures.case((subscripts, sizes)):
                    want = np.zeros((own_sizes.get(getattr(node.shape[0], "symbol", None), len(sizes)),
                                     *node.shape[1:]))
                    if len(sizes):
                        want = np.asarray(block_einsum.eval(np, *exact, *lengths.values(), subscripts=subscripts,
                                                            ragged=ragged, kinds=kinds, size=len(want)))
                    for device.backwards in (False, True):
                        (have,) = programs.call(program, [*arrays, *lengths.values()], own_sizes)
                        close([have], [want.astype(dtype)], {"f8": 1e-13, "f4": 1e-5, "f2": 2e-3, "i4": 0}[dtype])


def test_a_batch_with_one_example_computes_the_same_bits(on_stand_in):
    """Examples do not know of each other: not even of the tiles that their neighbours fill."""
    f = mg.compile(mg.vmap(programs.attention, (None, 0)), backend="cupy")
    params, batch = programs.attention_data((5, 1, 40, 17), "f4")
    whole = on_host(f(params, batch))
    for k, one in enumerate(batch.unbatch()):
        assert on_host(f(params, mg.batch([one])))[0].tobytes() == whole[k].tobytes()


@pytest.mark.parametrize(("dtype", "rtol"), [("f8", 1e-9), ("f4", 3e-5)])
def test_attention_is_captured_as_one_graph(on_device, dtype, rtol):
    step, numpys = (mg.compile(programs.ragged_attention, backend=b) for b in ("cupy", "numpy"))
    for lengths in ((5, 9, 1), (9, 5, 2), (1, 9, 5), (70, 1), (5, 9, 1)):
        params, batch = programs.attention_data(lengths, dtype, 20)
        for _ in range(3):
            value, gradient = step(params, batch)
            wanted, expected = numpys(params, batch)
            close([on_host(value), *map(on_host, gradient.values())], [wanted, *expected.values()], rtol)
    assert "all of it is captured" in step.stages[-1].after
    (entry,) = step.entries
    assert len(entry.program.plan.rounded) == 2
    if hasattr(on_device, "graphs"):
        assert len(on_device.graphs) == 2, "batches of nearly the same sizes share a graph"


def test_equal_lengths_are_counted_once():
    """Offsets and numbers of tiles are one launch each, however many products and heads read them."""
    params, batch = programs.attention_data((5, 9, 3))

    def two(p, e):
        return programs.attention(p, e) + programs.attention({**p, "a": -p["a"]}, e)

    counts = []
    for f in (programs.attention, two):
        graph, *_ = programs.optimized(mg.value_and_grad(mg.mean_loss(f, (None, 0))), params, batch)
        ops = Program(graph, device=Nowhere()).plan.ops
        counts.append((sum("scan<" in getattr(op, "body", "") for op in ops),
                       sum("multiply_tiles(" in getattr(op, "body", "") for op in ops)))
    assert counts[0][0] == counts[1][0]
    assert counts[1][1] == 2 * counts[0][1] == 12
