"""A Tree-LSTM over syntax trees: written for one node and its children, run level by level over all trees of a batch.

The trees are the functions of Python's standard library, as `ast` parses them. The child-sum Tree-LSTM of K. S. Tai, R.
Socher, C. D. Manning (2015) reads the kinds of the syntax nodes, from the leaves to the root, and learns whether a
function contains a loop, whose nodes it does not see by name: loops and comprehensions all read as "?".
"""

import argparse
import ast
import pathlib
import time

import numpy as np

import minigrad as mg

WIDTH, LARGEST, RATE, BATCH = 16, 60, 0.02, 8
LOOPS = (ast.For, ast.While, ast.comprehension)
MODULES = ("argparse", "ast", "bisect", "calendar", "copy", "csv", "difflib", "fnmatch", "glob", "gzip", "heapq",
           "inspect", "locale", "mimetypes", "pickle", "pprint", "shlex", "statistics", "string", "textwrap",
           "tokenize")

node = mg.axis("node")


@mg.example
class Tree:
    kind: mg.i64[node]
    parent: mg.index(node, null=-1)[node]  # the root, node 0, has none
    label: mg.f32[()]


def read(limit):
    """Return trees of functions, half of them with loops, and the number of kinds of nodes."""
    kinds = {"?": 0}

    def tree(function):
        kind, parent = [], []

        def add(syntax, above):
            kind.append(kinds.setdefault("?" if isinstance(syntax, LOOPS) else type(syntax).__name__, len(kinds)))
            parent.append(above)
            own = len(kind) - 1
            for child in ast.iter_child_nodes(syntax):
                if not isinstance(child, ast.expr_context):
                    add(child, own)

        add(function, -1)
        return Tree(kind, parent, float(any(isinstance(c, LOOPS) for c in ast.walk(function))))

    folder = pathlib.Path(ast.__file__).parent
    functions = [n for m in MODULES for n in ast.walk(ast.parse((folder / f"{m}.py").read_text(encoding="utf-8")))
                 if isinstance(n, ast.FunctionDef) and 8 <= sum(1 for _ in ast.walk(n)) <= LARGEST]
    trees = [tree(f) for f in functions]
    rng = np.random.default_rng(0)
    sides = [rng.permutation(np.flatnonzero([t.label == side for t in trees]))[:limit // 2] for side in (0, 1)]
    return [trees[k] for k in np.stack(sides, axis=1).ravel()], len(kinds)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(p, kind, h, c):
    """Return the state of a node, from its kind and the states of its children, which are rows."""
    x = p["embed"][kind]
    gates = x @ p["W"] + np.sum(h, axis=0) @ p["U"] + p["b"]
    write, out, new = sigmoid(gates[:WIDTH]), sigmoid(gates[WIDTH:2 * WIDTH]), np.tanh(gates[2 * WIDTH:])
    kept = sigmoid(x @ p["Wf"] + p["bf"] + h @ p["Uf"])  # a gate for each child
    c = write * new + np.sum(kept * c, axis=0)
    return out * np.tanh(c), c


def score(p, tree):
    """Return the score of one tree, read off its root."""
    state = mg.f32[WIDTH]
    h, _ = mg.tree_scan(lambda kind, children: cell(p, kind, *children), tree.parent, tree.kind, (state, state))
    return h[0] @ p["w"]


def loss(p, tree):
    """Return the cross-entropy of one tree."""
    s = score(p, tree)
    return np.logaddexp(0, s) - tree.label * s


def by_recursion(p, tree, i=0):
    """Return the state of node `i` in plain NumPy."""
    states = [by_recursion(p, tree, j) for j in np.flatnonzero(tree.parent == i)]
    empty = np.zeros((0, WIDTH), np.float32)
    return cell(p, tree.kind[i], *((np.stack(s) for s in zip(*states, strict=True)) if states else (empty, empty)))


def parameters(kinds):
    rng = np.random.default_rng(1)

    def matrix(n, m):
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    return {"embed": matrix(kinds, WIDTH) * 4, "W": matrix(WIDTH, 3 * WIDTH), "U": matrix(WIDTH, 3 * WIDTH),
            "b": np.zeros(3 * WIDTH, np.float32), "Wf": matrix(WIDTH, WIDTH), "Uf": matrix(WIDTH, WIDTH),
            "bf": np.ones(WIDTH, np.float32), "w": matrix(WIDTH, 1)[:, 0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    trees, kinds = read(2 * args.trees)
    p = parameters(kinds)
    seen, unseen = (mg.batch(part) for part in (trees[:args.trees], trees[args.trees:]))
    scores = mg.compile(mg.vmap(score, in_axes=(None, 0)))

    began = time.perf_counter()
    alone = [by_recursion(p, t)[0] @ p["w"] for t in seen]
    recursion, began = time.perf_counter() - began, time.perf_counter()
    np.testing.assert_allclose(scores(p, seen), alone, rtol=1e-3, atol=1e-5)
    compiled, began = time.perf_counter() - began, time.perf_counter()
    scores(p, seen)
    print(f"{len(seen)} trees of {seen.lengths[node].min()} to {seen.lengths[node].max()} nodes: {1e3 * recursion:.0f} "
          f"ms by recursion, {1e3 * (time.perf_counter() - began):.0f} ms as a batch (the first time "
          f"{1e3 * compiled:.0f} ms)")

    step = mg.compile(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))))
    init, update = mg.optim.adam(RATE)
    state = init(p)
    rng = np.random.default_rng(2)
    for epoch in range(args.epochs):
        values = []
        for which in np.array_split(rng.permutation(len(seen)), len(seen) // BATCH):
            value, gradient = step(p, seen[which])
            p, state = update(gradient, state, p)
            values.append(value)
        if epoch % 3 == 0 or epoch == args.epochs - 1:
            print(f"epoch {epoch:3}: loss {np.mean(values):.3f}")
    right = [np.mean((scores(p, part) > 0) == part.label) for part in (seen, unseen)]
    print(f"{len(step.entries)} program; right: {right[0]:.0%} of these trees, {right[1]:.0%} of {len(unseen)} others")


if __name__ == "__main__":
    main()
