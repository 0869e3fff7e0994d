"""Padding against graphs laid side by side, in time and memory, as the sizes in a batch differ more and more.

64 graphs are batched: 63 of them have 8 nodes, and one has 8, 40 or 200. Padding gives every graph as many nodes as the
largest has; side by side, the batch has the nodes that there are. The rows agree with the loop in all cases.
"""

import numpy as np

import minigrad as mg

node, edge = mg.axis("node"), mg.axis("edge")
rng = np.random.default_rng(0)


@mg.example
class Graph:
    x: mg.f64[node, 4]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]


def draw(n):
    return Graph(x=rng.normal(size=(n, 4)), src=rng.integers(0, n, 3 * n), dst=rng.integers(0, n, 3 * n))


def loss(w, g):
    return np.sum(np.tanh(mg.segment_sum((g.x @ w)[g.src], g.dst, g.x.shape[0]))) ** 2


weights = rng.normal(size=(4, 16))
for largest in (8, 40, 200):
    batch = mg.batch([draw(largest), *(draw(8) for _ in range(63))])
    report = mg.compare(loss, weights, batch, repeats=5, progress=False)
    print(f"the largest of 64 graphs has {largest} nodes, the others 8\n{report}\n")
    assert [row.name for row in report.rows] == ["loop", "padded", "giant"]
    assert all(row.difference < 1e-9 for row in report.rows)
