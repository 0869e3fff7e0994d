"""The whole idea in one file: trace the loss of one example, then rewrite its graph.

A batch axis, a mean and a gradient are rewrites of one graph. minigrad makes equal graphs, node by node.

Limits: float64, elementwise operations and sums, one output, batch axes in front; no matrix products, indices, branches
or ragged batches, no passes (a term without an example stays in the mean), no program: one array call per node.
"""

import numpy as np


# -- nodes
class Node(np.lib.mixins.NDArrayOperatorsMixin):  # a + b calls np.add, and np.add calls __array_ufunc__
    """An operation with its operands, the shape of its value, and its static parameters."""

    made, __eq__, __hash__ = 0, object.__eq__, object.__hash__

    def __init__(self, op, inputs=(), shape=(), **params):
        self.op, self.inputs, self.shape, self.params = op, tuple(inputs), tuple(shape), params
        self.serial = Node.made = Node.made + 1

    def __array_ufunc__(self, ufunc, method, *operands):
        shape = max((x.shape for x in operands if isinstance(x, Node)), key=len)
        return Node(UFUNCS[ufunc], [align(x, shape) for x in operands], shape)

    def sum(self, axis=None, out=None):  # np.sum(node) calls node.sum
        return reduce("sum", self, tuple(range(len(self.shape))) if axis is None else (axis,))


class Graph:
    """A program: named inputs, an output, and all nodes that the output depends on."""

    def __init__(self, name, names, inputs, output):
        self.name, self.names, self.inputs, self.output = name, tuple(names), tuple(inputs), output
        found, stack = {*inputs, output}, [output]
        while stack:
            new = set(stack.pop().inputs) - found
            found |= new
            stack += new
        self.nodes = sorted(found, key=lambda node: node.serial)  # operands come before their users


# -- trace
def trace(f, *arrays):
    """Return the graph of f, which sees the shapes of its arguments alone."""
    inputs = [Node("input", shape=a.shape) for a in arrays]
    return Graph(f.__name__, f.__code__.co_varnames[:len(arrays)], inputs, f(*inputs))


def expand(x, shape, axes):
    """Return x with new axes, so that it has the given shape; a constant is made anew."""
    if x.op == "constant":
        return Node("constant", (), shape, **x.params)
    return Node("expand", (x,), shape, axes=axes) if axes else x


def reduce(op, x, axes):
    return Node(op, (x,), [n for a, n in enumerate(x.shape) if a not in axes], axes=axes)


def align(x, shape):
    """Return a number or a node as a node of the given shape: missing axes come in front."""
    x = x if isinstance(x, Node) else Node("constant", value=float(x))
    return expand(x, shape, tuple(range(len(shape) - len(x.shape))))


# -- print
def show(graph):
    """Return the graph as text, one line per node."""
    kind = {node: f"f64[{', '.join(map(str, node.shape))}]" for node in graph.nodes}
    word, rows = dict(zip(graph.inputs, graph.names, strict=True)), []
    for node in graph.nodes:
        if node.op == "constant":
            word[node] = repr(node.params["value"])
        elif node not in word:
            word[node] = f"%{len(rows) + 1}"
            words = [word[i] for i in node.inputs] + [
                v if key == "size" else f"axes={v[0] if len(v) == 1 else v}" for key, v in node.params.items()]
            rows.append((f"  {word[node]}: {kind[node]}", f"{node.op}({', '.join(words)})"))
    width = max(len(left) for left, _ in rows)
    head = f"{graph.name}({', '.join(f'{word[i]}: {kind[i]}' for i in graph.inputs)}) -> {kind[graph.output]}"
    return "\n".join([head, *(f"{a:<{width}} = {b}" for a, b in rows), f"  return {word[graph.output]}"])


# -- rules
# run(xp, shape, *values, **params) computes the value of an operation by the array namespace xp;
# pull(g, out, *inputs, **params) returns the cotangents of its operands, given the cotangent g of its result;
# batch(node, inputs, size) returns the operation with one more axis in front.
RUN, PULL, BATCH, UFUNCS = {}, {}, {}, {}


def batch_in_front(node, inputs, size):
    """Batch an operation: operands without the new axis get it, and the other axes move up by one."""
    aligned = [align(x, (size, *old.shape)) for x, old in zip(inputs, node.inputs, strict=True)]
    moved = {key: tuple(a + 1 for a in axes) for key, axes in node.params.items()}
    return Node(node.op, aligned, (size, *node.shape), **moved)


def declare(op, run, pull, batch=batch_in_front):
    RUN[op], PULL[op], BATCH[op] = run, pull, batch


def elementwise(op, ufunc, pull):
    declare(op, lambda xp, shape, *values: getattr(xp, ufunc.__name__)(*values), pull)
    UFUNCS[ufunc] = op


elementwise("add", np.add, lambda g, out, x, y: (g, g))
elementwise("sub", np.subtract, lambda g, out, x, y: (g, -g))
elementwise("mul", np.multiply, lambda g, out, x, y: (g * y, g * x))
elementwise("div", np.divide, lambda g, out, x, y: (over := g / y, -(over * out)))
elementwise("neg", np.negative, lambda g, out, x: (-g,))
elementwise("square", np.square, lambda g, out, x: (g * (2 * x),))
elementwise("exp", np.exp, lambda g, out, x: (g * out,))
elementwise("tanh", np.tanh, lambda g, out, x: (g * Node("tanh_slope", (out, x), out.shape),))
declare("tanh_slope", lambda xp, shape, y, x: xp.square(1 / xp.cosh(x)),
        lambda g, out, y, x: (None, g * (y * out * -2)))  # y = tanh(x): the whole derivative goes to x
declare("expand", lambda xp, shape, x, axes: xp.broadcast_to(xp.expand_dims(x, axis=axes), shape),
        lambda g, out, x, axes: (reduce("sum", g, axes),))
declare("sum", lambda xp, shape, x, axes: xp.sum(x, axis=axes), lambda g, out, x, axes: (expand(g, x.shape, axes),))
declare("mean", lambda xp, shape, x, axes: xp.mean(x, axis=axes),
        lambda g, out, x, axes: (expand(g / Node("size", size=x.shape[axes[0]]), x.shape, axes),))
declare("constant", lambda xp, shape, value: xp.full(shape, value), None)
declare("size", lambda xp, shape, size: xp.asarray(float(size)), None)


# -- rewrites
def vmap(graph, in_axes, size="B"):
    """Return the graph of a batch: inputs with in_axes 0 have one row per example, those with None are shared."""
    mapped = {x for x, axis in zip(graph.inputs, in_axes, strict=True) if axis == 0}
    new = {x: Node("input", (), (size, *x.shape) if x in mapped else x.shape) for x in graph.inputs}
    for node in graph.nodes:
        inputs = [new[i] for i in node.inputs]
        if not mapped.isdisjoint(node.inputs):
            new[node] = BATCH[node.op](node, inputs, size)
            mapped.add(node)
        elif node not in new:  # the same for all examples: it has no batch axis, and runs once
            same = inputs == [*node.inputs]
            new[node] = node if same else Node(node.op, inputs, node.shape, **node.params)
    output = align(new[graph.output], (size, *graph.output.shape))
    return Graph(graph.name, graph.names, [new[x] for x in graph.inputs], output)


def mean(graph):  # over the examples
    return Graph(graph.name, graph.names, graph.inputs, reduce("mean", graph.output, (0,)))


def grad(graph, name):
    """Return the graph of the gradient with respect to the input called name."""
    wrt, cotangents = graph.inputs[graph.names.index(name)], {graph.output: align(1, ())}
    for node in reversed(graph.nodes):
        if node in cotangents and node.inputs:
            pulled = PULL[node.op](cotangents[node], node, *node.inputs, **node.params)
            for x, g in zip(node.inputs, pulled, strict=True):
                if g is not None:
                    cotangents[x] = cotangents[x] + g if x in cotangents else g
    return Graph(graph.name, graph.names, graph.inputs, cotangents.get(wrt, align(0, wrt.shape)))


# -- evaluate
def evaluate(graph, *arrays, xp=np):
    values = dict(zip(graph.inputs, arrays, strict=True))
    sizes = {name: n for x, a in values.items() for name, n in zip(x.shape, a.shape, strict=True)}
    for node in graph.nodes:
        if node not in values:
            shape = tuple(sizes.get(n, n) for n in node.shape)
            params = {key: sizes[v] if key == "size" else v for key, v in node.params.items()}
            values[node] = RUN[node.op](xp, shape, *(values[i] for i in node.inputs), **params)
    return values[graph.output]


# -- seed
def f(x, w):
    return np.tanh(np.sum(x * w)) * np.exp(-np.sum(w * w))  # the second factor depends on w alone


def g(a, b, x):
    return np.square(a - 0.5) + a * b * np.sum(x)


def s(w, x):
    return g(f(x, w), f(x, w), x)


def main(xp=np):
    w, X = xp.linspace(-0.5, 0.5, 4), xp.reshape(xp.arange(24.0), (6, 4)) / 10
    one, axes = trace(s, w, X[0]), (None, 0)  # w is shared, x has one row per example
    loss = mean(vmap(one, axes))
    print(show(one), show(loss), show(grad(loss, "w")), sep="\n\n", end="\n\n")
    each = xp.stack([evaluate(grad(one, "w"), w, X[k], xp=xp) for k in range(6)])
    for name, batch, loop in (
            ("loss", evaluate(loss, w, X, xp=xp), sum(s(w, X[k]) for k in range(6)) / 6),
            ("each gradient", evaluate(vmap(grad(one, "w"), axes), w, X, xp=xp), each),
            ("mean gradient", evaluate(grad(loss, "w"), w, X, xp=xp), xp.mean(each, axis=0))):
        print(f"{name}: batch and loop differ by {(worst := float(xp.max(xp.abs(batch - loop)))):.1e}")
        assert worst < 1e-14, name


if __name__ == "__main__":
    main()
