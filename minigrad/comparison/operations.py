"""How much arithmetic a graph stands for.

One operation is one addition, multiplication, comparison or call of a function such as ``exp``, on one element; a
fused multiply-add counts as two, as is usual. Moving data (views, gathers, concatenations) counts as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..dims import Symbol, size_of, value
from ..graph import Graph, Node, TupleType
from ..ops.contract import parse
from ..text import held_graphs

_FREE = frozenset({"input", "full", "const", "iota", "size", "proj", "barrier", "in_range", "stop_gradient", "expand",
                   "reshape", "transpose", "slice", "pad", "concatenate", "flip", "gather"})
_PER_INPUT = frozenset({"sum", "max", "min", "any", "all", "mean", "argmax", "argmin", "cumsum", "cummax",
                        "cummin", "cumfmax", "cumfmin", "scatter_add"})
_FACTORIZATIONS = {  # leading terms for an m × n matrix with m ≥ n (Golub and Van Loan)
    "cholesky": lambda m, n: n**3 / 3, "inv": lambda m, n: 2 * n**3, "det": lambda m, n: 2 * n**3 / 3,
    "slogdet": lambda m, n: 2 * n**3 / 3, "eigh": lambda m, n: 9 * n**3, "qr": lambda m, n: 4 * n * n * (m - n / 3),
    "svd": lambda m, n: 14 * m * n * n + 8 * n**3, "cofactor": lambda m, n: 24 * n**3}


def count_operations(graph: Graph, sizes: Mapping[Symbol, int] | None = None) -> int:
    """Return the number of arithmetic operations that running `graph` takes.

    Parameters
    ----------
    graph : Graph
    sizes : mapping of Symbol to int, optional
        Numbers for the symbolic sizes.

    Notes
    -----
    A contraction costs two operations per combination of its indices (one where nothing is summed); an elementwise
    node one per element of its result; a reduction one per element of its operand; sorting n elements n log2 n;
    factorizations their leading terms. Graphs that nodes hold count as often as they run: a `while` loop, of which
    that is not known, once, and of a `switch` the longest branch.
    """
    return sum(_operations(n, sizes or {}) for n in graph.nodes)


def count_nodes(graph: Graph) -> int:
    """Return the number of nodes, inputs apart; of graphs that nodes hold, too."""
    return sum(n.prim.name != "input" for n in graph.nodes) + sum(
        count_nodes(g) for n in graph.nodes for _, g in held_graphs(n))


def _operations(node: Node, sizes: Mapping[Symbol, int]) -> int:
    name, p = node.prim.name, node.params
    if name in _FREE:
        return 0
    if name == "einsum":
        return _contraction(node, sizes)
    if name == "checkpoint":
        return count_operations(p["graph"], sizes)
    if name == "chunked":
        total, dim = value(p["total"], sizes), p["dim"].symbol
        whole, rest = divmod(total, p["size"])
        return sum(times * count_operations(p["graph"], {**sizes, dim: n})
                   for times, n in ((whole, p["size"]), (1, rest)) if times and n)
    if name == "scan":
        return value(p["length"], sizes) * count_operations(p["body"], sizes)
    if name == "while":  # how often it runs is known when it has run
        return count_operations(p["test"], sizes) + count_operations(p["body"], sizes)
    if name == "switch":
        return _size(node.inputs[0], sizes) * max(count_operations(g, sizes) for g in p["graphs"])
    if name == "random_bits":
        return 16 * _size(node, sizes)  # 10 rounds of 6 operations and 9 steps of the key, for 4 words
    if name == "argsort":
        n = value(node.shape[p["axis"]], sizes)
        return math.ceil(_size(node, sizes) * math.log2(max(n, 1)))
    if name in _PER_INPUT:
        return _size(node.inputs[0], sizes)
    if name in ("solve", "triangular_solve") or name in _FACTORIZATIONS:
        return _linear_algebra(node, sizes)
    return _size(node, sizes)


def _size(node: Node, sizes: Mapping[Symbol, int]) -> int:
    types = node.type.parts if isinstance(node.type, TupleType) else (node.type,)
    return sum(value(size_of(t.shape), sizes) for t in types)


def _contraction(node: Node, sizes: Mapping[Symbol, int]) -> int:
    """Count pair by pair, from left to right, as the reference evaluates it."""
    terms, out = parse(node.params["subscripts"])
    if len(terms) == 1:
        return 0  # a transposition
    length = {c: value(n, sizes) for term, x in zip(terms, node.inputs, strict=True)
              for c, n in zip(term, x.shape, strict=True)}
    count, have = 0, set(terms[0])
    for k, term in enumerate(terms[1:], 2):
        together = have | set(term)
        have = {c for c in together if c in out or any(c in t for t in terms[k:])}
        count += math.prod(length[c] for c in together) * (1 if have == together else 2)
    return count


def _linear_algebra(node: Node, sizes: Mapping[Symbol, int]) -> int:
    *lead, m, n = (value(d, sizes) for d in node.inputs[0].shape)
    if node.prim.name in _FACTORIZATIONS:
        each = _FACTORIZATIONS[node.prim.name](max(m, n), min(m, n))
    else:
        columns = value(node.inputs[1].shape[-1], sizes)
        each = n * n * columns if node.prim.name == "triangular_solve" else 2 * n**3 / 3 + 2 * n * n * columns
    return round(math.prod(lead) * each)
