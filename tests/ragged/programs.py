"""Random schemas, random examples of them, and random programs of one example.

`choices` is anything with ``integer(least, most)`` and ``pick(options)``: Hypothesis in the tests, a seed in the hunt.
"""

import numpy as np

import minigrad as mg
import minigrad.numpy as mnp

AXES = [mg.axis(name) for name in ("p", "q", "r")]
WIDTH = 2


def draw_schema(choices):
    """Return a schema: values and indices on one to three axes, chains of indices included."""
    axes = AXES[:choices.integer(1, 3)]
    kinds = {f"x_{a}": mg.f64[a, WIDTH] for a in axes}
    kinds |= {f"s_{a}": mg.f64[a] for a in axes}
    kinds |= {f"m_{a}": mg.bool_[a] for a in axes if choices.integer(0, 1)}
    for k in range(choices.integer(1, 3)):
        on, into = choices.pick(axes), choices.pick(axes)
        kinds[f"i{k}_{on}_{into}"] = mg.index(into)[on]
    kinds["y"] = mg.f64[WIDTH]
    if choices.integer(0, 1):
        kinds["block"] = mg.f64[choices.pick(axes), choices.pick(axes)]
    # A schema of its own name in this module, so that its examples pickle as those of a user's class do.
    name = "Drawn_" + "_".join(kinds)
    if name not in globals():
        globals()[name] = mg.example(type(name, (), {"__annotations__": kinds, "__module__": __name__}))
    return globals()[name]


def an_example(cls, rng, sizes):
    values = {}
    for name, t in cls.__schema__.fields.items():
        shape = tuple(sizes.get(n, n) for n in t.shape)
        if t.target is None:
            values[name] = rng.normal(size=shape) if t.dtype.kind == "f" else rng.random(shape) < 0.6
        else:
            values[name] = rng.integers(0, max(sizes[t.target], 1), shape)
    return cls(**values)


def draw_batch(choices, most=4):
    """Return a schema and examples of it."""
    cls = draw_schema(choices)
    axes = cls.__schema__.axes
    pointed = {(t.axes[0], t.target) for t in cls.__schema__.fields.values() if t.target is not None}
    rng = np.random.default_rng(choices.integer(0, 999))
    examples = []
    for _ in range(choices.integer(1, most)):
        sizes = {a: choices.integer(0, 3) for a in axes}
        for _ in axes:  # nothing points into an axis without rows
            for on, into in pointed:
                if not sizes[into]:
                    sizes[on] = 0
        examples.append(an_example(cls, rng, sizes))
    return cls, examples


# A program is a list of steps. Each takes values that are there, by number, and adds one; a value is remembered with
# its axes: (p,) with WIDTH columns or without, (p, q), or () for a vector of WIDTH.


def start(cls):
    pool = []
    for name, t in cls.__schema__.fields.items():
        if t.target is None and t.dtype.kind == "f":
            pool.append((("field", name), t.axes, bool(t.dense)))
    return pool


def draw_program(choices, cls):
    """Return steps, and for each value its axes and whether it has columns."""
    pool, steps = start(cls), []
    indices = [(n, t) for n, t in cls.__schema__.fields.items() if t.target is not None]
    for _ in range(choices.integer(1, 6)):
        k = choices.integer(0, len(pool) - 1)
        _, axes, wide = pool[k]
        options = ["tanh", "scale"]
        same = [j for j, (_, a, w) in enumerate(pool) if (a, w) == (axes, wide)]
        options += ["add", "mul"]
        options += ["branch"]
        if axes:
            options += ["sum 0", "concatenate", "flip", "max 0", "states", "states back", "last state"]
        if len(axes) == 1:
            options += ["gather"] * 2 + ["scatter"] * 2 + ["cumsum", "sort", "count", "pairs", "mean 0", "masked"]
            options += ["product 0", "cumprod", "running max", "steps 0", "halves 0", "median 0", "windows 0"]
            options += ["kept sum", "kept rows"]
            options += ["matmul", "gram", "row sum", "spread"] if wide else ["outer y"]
        if len(axes) == 2:
            options += ["sum 1", "transpose", "softmax"]
        step = choices.pick(options)
        if step == "gather":
            fit = [(n, t) for n, t in indices if t.target == axes[0]]
            if not fit:
                continue
            name, t = choices.pick(fit)
            steps.append((step, k, name))
            pool.append((None, t.axes, wide))
        elif step == "scatter":
            fit = [(n, t) for n, t in indices if t.axes == axes]
            if not fit:
                continue
            name, t = choices.pick(fit)
            how = choices.pick(["sum", "mean", "max", "softmax"])
            steps.append((f"scatter {how}", k, (name, f"s_{t.target}")))
            pool.append((None, axes if how == "softmax" else (t.target,), wide))
        elif step in ("masked", "kept sum", "kept rows"):
            if f"m_{axes[0]}" not in cls.__schema__.fields:
                continue
            steps.append((step, k, f"m_{axes[0]}"))
            pool.append((None, () if step == "kept sum" and wide else axes, wide))
        elif step == "concatenate":
            steps.append((step, k, None))  # and the sum of it, for it is on an axis of its own
            pool.append((None, axes[1:], wide))
        elif step == "pairs":
            other = choices.pick([j for j, (_, a, w) in enumerate(pool) if len(a) == 1 and not w])
            if wide:
                continue
            steps.append((step, k, other))
            pool.append((None, (*axes, *pool[other][1]), False))
        elif step in ("add", "mul"):
            steps.append((step, k, choices.pick(same)))
            pool.append((None, axes, wide))
        else:
            steps.append((step, k, None))
            reduced = dict.fromkeys(("product 0", "steps 0", "halves 0", "median 0", "windows 0"), (axes[1:], wide))
            after = {**reduced, "sum 0": (axes[1:], wide), "mean 0": (axes[1:], wide), "max 0": (axes[1:], wide),
                     "sum 1": (axes[:1], False), "transpose": (axes[::-1], False), "gram": ((), True),
                     "row sum": (axes, False), "outer y": (axes, True), "last state": (axes[1:], wide)}
            pool.append((None, *after.get(step, (axes, wide))))
    return steps, pool


def run(steps, cls, g, c=1.0):
    values = [getattr(g, name) * c for (_, name), _, _ in start(cls)]
    for step, k, other in steps:
        x = values[k]
        values.append(one(step, x, other, values, g))
    return values[-1]


def one(step, x, other, values, g):
    match step:
        case "tanh":
            return np.tanh(x)
        case "scale":
            return x * 0.5 + 0.25
        case "add":
            return x + values[other]
        case "mul":
            return x * values[other]
        case "sum 0":
            return np.sum(x, axis=0)
        case "max 0":
            return np.max(x, axis=0, initial=-2.0)
        case "sum 1":
            return np.sum(x, axis=1)
        case "row sum":
            return np.sum(x, axis=1)
        case "transpose":
            return x.T
        case "branch":
            return mg.cond(g.y[0] > 0, lambda x: np.tanh(x) * g.y[1], lambda x: x / 2, x)
        case "states" | "states back" | "last state":
            states = mg.scan(lambda h, row: (np.tanh(h / 2 + row), h * row + g.y[0]), 0.5 + 0 * np.sum(x, axis=0), x,
                             reverse=step == "states back")
            return states[step != "last state"]
        case "flip":
            return x[::-1]
        case "concatenate":
            both = np.concatenate([x, np.tanh(x)])
            return np.sum(both * (1 + mnp.arange(both.shape[0])).reshape(-1, *[1] * (x.ndim - 1)), axis=0)
        case "gather":
            return x[getattr(g, other)]
        case "mean 0":
            return np.mean(np.concatenate([x, np.ones((1, *x.shape[1:]))]), axis=0)
        case "masked":
            mask = getattr(g, other)
            return np.where(mask[:, None] if x.ndim > 1 else mask, x, 0.5)
        case "kept sum" if x.ndim > 1:
            kept = x[mg.select(getattr(g, other))]
            return np.sum(np.tanh(kept), axis=0) / (1 + kept.shape[0])
        case "kept sum":  # a number, at each row
            return x * np.sum(x[mg.select(getattr(g, other))] ** 2)
        case "kept rows":
            kept = mg.select(getattr(g, other))
            return mg.segment_sum(x[kept] * 2.0, kept, x.shape[0])
        case "scatter sum" | "scatter mean" | "scatter max" | "scatter softmax":
            name, like = other
            size = getattr(g, like).shape[0]
            if step == "scatter max":
                return mg.segment_max(x, getattr(g, name), size, initial=-1.5)
            reduce = {"sum": mg.segment_sum, "mean": mg.segment_mean, "softmax": mg.segment_softmax}[step.split()[1]]
            return reduce(x, getattr(g, name), size)
        case "product 0":
            return np.prod(x, axis=0)
        case "cumprod":
            return np.cumprod(x, axis=0)
        case "running max":
            return np.maximum.accumulate(x, axis=0)
        case "steps 0":
            return np.sum(np.sin(x[::2]) * x[::2], axis=0) - np.sum(x[::-3], axis=0)
        case "halves 0":
            n = x.shape[0]
            halves = np.concatenate([x[n // 2:], 2 * x[:n // 2]])
            return np.sum(np.cumsum(halves, axis=0), axis=0)
        case "median 0":
            return np.median(np.concatenate([x, np.ones((2, *x.shape[1:]))]), axis=0)
        case "windows 0":
            padded = np.pad(x, ((1, 2), *[(0, 0)] * (x.ndim - 1)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0)
            return np.sum(np.sin(np.tensordot(windows, [0.5, 1.0, -0.25], axes=1)), axis=0)
        case "cumsum":
            return np.cumsum(x, axis=0)
        case "sort":
            return np.sort(x, axis=0)
        case "count":
            return x / (1 + x.shape[0])
        case "pairs":
            return x[:, None] * values[other][None, :]
        case "matmul":
            return x @ np.array([[1.0, 2.0], [-0.5, 0.3]])
        case "gram":
            return (x.T @ x) @ g.y
        case "spread":
            return x * g.y
        case "outer y":
            return x[:, None] * g.y
        case "softmax":
            e = np.exp(x - np.max(x, axis=1, keepdims=True, initial=0.0))
            return e / np.sum(e, axis=1, keepdims=True)
    raise AssertionError(step)
