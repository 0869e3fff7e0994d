"""A Tree-LSTM over syntax trees: each example has a structure of its own, found by recursion, and all run as one batch.

The trees are the functions of Python's standard library, as `ast` parses them. The child-sum Tree-LSTM of K. S. Tai, R.
Socher, C. D. Manning (2015) reads the kinds of the syntax nodes, from the leaves to the root, and learns whether a
function contains a loop, whose nodes it does not see by name: loops and comprehensions all read as "?".
"""

import argparse
import ast
import functools
import pathlib
import time

import numpy as np

import minigrad as mg

WIDTH, LARGEST, RATE = 16, 60, 0.05
LOOPS = (ast.For, ast.While, ast.comprehension)
MODULES = ("argparse", "ast", "bisect", "calendar", "copy", "csv", "difflib", "fnmatch", "glob", "gzip", "heapq",
           "inspect", "locale", "mimetypes", "pickle", "pprint", "shlex", "statistics", "string", "textwrap",
           "tokenize")


def read(limit):
    """Return trees ``(kind, children)`` of functions, half with loops, their labels, and the number of kinds."""
    kinds = {"?": 0}

    def tree(node):
        name = "?" if isinstance(node, LOOPS) else type(node).__name__
        children = [tree(c) for c in ast.iter_child_nodes(node) if not isinstance(c, ast.expr_context)]
        return kinds.setdefault(name, len(kinds)), children

    folder = pathlib.Path(ast.__file__).parent
    functions = [n for m in MODULES for n in ast.walk(ast.parse((folder / f"{m}.py").read_text(encoding="utf-8")))
                 if isinstance(n, ast.FunctionDef) and 8 <= sum(1 for _ in ast.walk(n)) <= LARGEST]
    labels = [any(isinstance(c, LOOPS) for c in ast.walk(f)) for f in functions]
    rng = np.random.default_rng(0)
    sides = [rng.permutation(np.flatnonzero(np.equal(labels, side)))[:limit // 2] for side in (False, True)]
    chosen = np.stack(sides, axis=1).ravel()
    return [tree(functions[k]) for k in chosen], [float(labels[k]) for k in chosen], len(kinds)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encode(p, tree):
    """Return the state of a tree's root: h and c."""
    kind, children = tree
    x = p["embed"][kind]
    states = [encode(p, child) for child in children]
    total = sum(h for h, _ in states) if states else np.zeros(WIDTH, np.float32)
    gates = x @ p["W"] + total @ p["U"] + p["b"]
    write, out, new = sigmoid(gates[:WIDTH]), sigmoid(gates[WIDTH:2 * WIDTH]), np.tanh(gates[2 * WIDTH:])
    c = write * new
    if states:
        kept = x @ p["Wf"] + p["bf"]
        c = c + sum(sigmoid(kept + h @ p["Uf"]) * child for h, child in states)
    return out * np.tanh(c), c


def loss(p, tree, label):
    """Return the cross-entropy of one tree."""
    score = encode(p, tree)[0] @ p["w"]
    return np.logaddexp(0, score) - label * score


def parameters(kinds):
    rng = np.random.default_rng(1)

    def matrix(n, m):
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    return {"embed": matrix(kinds, WIDTH) * 4, "W": matrix(WIDTH, 3 * WIDTH), "U": matrix(WIDTH, 3 * WIDTH),
            "b": np.zeros(3 * WIDTH, np.float32), "Wf": matrix(WIDTH, WIDTH), "Uf": matrix(WIDTH, WIDTH),
            "bf": np.ones(WIDTH, np.float32), "w": matrix(WIDTH, 1)[:, 0]}


def batched(p, trees, labels):
    """Return the graph of the losses of all trees: traced one by one, batched by kind of operation."""
    graphs = [mg.trace(functools.partial(loss, tree=t, label=y))(p) for t, y in zip(trees, labels, strict=True)]
    return mg.autobatch(graphs, in_axes=None)


def right(p, trees, labels):
    """Return the share of the trees that the model labels right, in plain NumPy."""
    return np.mean([(encode(p, t)[0] @ p["w"] > 0) == y for t, y in zip(trees, labels, strict=True)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=48)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    trees, labels, kinds = read(2 * args.trees)
    p = parameters(kinds)
    seen, unseen = slice(0, args.trees), slice(args.trees, None)

    began = time.perf_counter()
    losses = batched(p, trees[seen], labels[seen])
    print(f"{args.trees} trees, {losses.notes[-1].removeprefix('autobatch: ')} in {time.perf_counter() - began:.1f} s")
    single = [loss(p, t, y) for t, y in zip(trees[seen], labels[seen], strict=True)]  # NumPy alone, tree by tree
    np.testing.assert_allclose(losses(p), single, rtol=1e-4)

    step = mg.compile(losses.mean().value_and_grad("p"))
    init, update = mg.optim.adam(RATE)
    state = init(p)
    for k in range(args.steps):
        value, gradient = step(p)
        p, state = update(gradient, state, p)
        if k % 10 == 0 or k == args.steps - 1:
            print(f"step {k:3}: loss {value:.3f}")
    print(f"right: {right(p, trees[seen], labels[seen]):.0%} of these trees, "
          f"{right(p, trees[unseen], labels[unseen]):.0%} of {len(trees[unseen])} others")


if __name__ == "__main__":
    main()
