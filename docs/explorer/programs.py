"""Six programs in the explorer, each with the view that its picture shows."""

import numpy as np

import minigrad as mg
from minigrad.explorer import Exploration, seed

atom, bond = mg.axis("atom"), mg.axis("bond")


@mg.example
class Molecule:
    """Atoms (hydrogen, carbon, nitrogen, oxygen), bonds in both directions, and the boiling point in 100 °C."""

    kinds: mg.f64[atom, 4]
    src: mg.index(atom)[bond]
    dst: mg.index(atom)[bond]
    boils: mg.f64[()]


def molecule(atoms: str, bonds: list[tuple[int, int]], boils: float) -> Molecule:
    """Return a molecule of the letters of its atoms and pairs of bound ones."""
    pairs = np.array([*bonds, *((b, a) for a, b in bonds)])
    return Molecule(kinds=np.eye(4)[["HCNO".index(a) for a in atoms]], src=pairs[:, 0], dst=pairs[:, 1], boils=boils)


def seed_program() -> Exploration:
    """Return the page of s = g(f(x, w), f(x, w), x)."""
    return mg.explore(seed.s, seed.params, seed.examples)


def digits() -> Exploration:
    """Return the page of a perceptron that reads handwritten digits."""
    from sklearn.datasets import load_digits

    def loss(params, x, label):
        with mg.scope("hidden"):
            h = np.maximum(x @ params["W1"] + params["b1"], 0)
        with mg.scope("classes"):
            z = mg.label(h @ params["W2"] + params["b2"], "logits")
        return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]

    data, rng = load_digits(), np.random.default_rng(0)
    params = {"W1": rng.normal(0, 0.18, (64, 128)).astype(np.float32), "b1": np.zeros(128, np.float32),
              "W2": rng.normal(0, 0.12, (128, 10)).astype(np.float32), "b2": np.zeros(10, np.float32)}
    return mg.explore(loss, params, ((data.data / 16).astype(np.float32), data.target))


def molecules() -> Exploration:
    """Return the page of a graph network on molecules of different size."""
    def loss(p, m):
        h = np.tanh(m.kinds @ p["atoms"])
        h = np.tanh(h + mg.segment_sum((h @ p["bonds"])[m.src], m.dst, m.kinds.shape[0]))
        return (np.sum(h @ p["out"]) - m.boils) ** 2

    ring = [(k, (k + 1) % 6) for k in range(6)]
    batch = mg.batch([molecule("OHH", [(0, 1), (0, 2)], 1.0), molecule("NHHH", [(0, 1), (0, 2), (0, 3)], -0.333),
                      molecule("CHHHH", [(0, 1), (0, 2), (0, 3), (0, 4)], -1.615),
                      molecule("CCO", [(0, 1), (1, 2)], 0.784), molecule("CCCCCC", ring, 0.801)])
    rng = np.random.default_rng(0)
    return mg.explore(loss, {"atoms": rng.normal(size=(4, 3)), "bonds": rng.normal(size=(3, 3)) / 2,
                             "out": rng.normal(size=3)}, batch)


def recurrent() -> Exploration:
    """Return the page of a recurrent network: a scan."""
    def loss(p, xs, y):
        def read(h, x):
            return np.tanh(h @ p["W"] + x @ p["U"]), None

        h, _ = mg.scan(read, np.zeros(3), xs)
        return (np.sum(h * p["v"]) - y) ** 2

    rng = np.random.default_rng(0)
    return mg.explore(loss, {"W": rng.normal(size=(3, 3)) / 2, "U": rng.normal(size=(2, 3)), "v": np.ones(3)},
                      (rng.normal(size=(6, 5, 2)), rng.normal(size=6)))


def logistic() -> Exploration:
    """Return the page of logistic regression on two species of iris."""
    def loss(w, x, y):
        z = mg.label(x @ w[:-1] + w[-1], "score")
        return np.logaddexp(0.0, -y * z)

    return mg.explore(loss, np.array([0.3, -0.4, 0.5, 0.2, 0.0]), (seed.examples[0], np.array([-1.0, -1, 1, 1, 1, 1])))


def robust() -> Exploration:
    """Return the page of a loss that is square near 0 and linear far from it, by `cond`."""
    def loss(w, x, y):
        r = mg.label(x * w[0] + w[1] - y, "residual")
        return mg.cond(np.abs(r) < 1, lambda r: r**2 / 2, lambda r: np.abs(r) - 0.5, r)

    x = np.linspace(-1, 1, 8)
    return mg.explore(loss, np.array([1.0, 0.0]), (x, 2 * x + np.array([0, 0.1, -0.2, 3, 0, 0.1, -4, 0])))


# The name of each picture: the page, the stages on it, the example, and an operation that is selected.
VIEWS = {
    "seed": (seed_program, "gradient", None, None, "tanh"),
    "digits": (digits, "batch", None, 3, "maximum"),
    "molecules": (molecules, "batch", None, 4, None),
    "recurrent": (recurrent, "mean", None, 2, "scan"),
    "logistic": (logistic, "each gradient", "gradient", 1, None),
    "robust": (robust, "gradient", None, None, "switch"),
}
