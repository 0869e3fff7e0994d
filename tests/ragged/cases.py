"""Programs of one example, batches to run them on, and the loop that they are compared with."""

import numpy as np

import minigrad as mg

node, edge, word = mg.axis("node"), mg.axis("edge"), mg.axis("word")


@mg.example
class Molecule:
    x: mg.f64[node, 4]
    src: mg.index(node)[edge]
    dst: mg.index(node)[edge]
    w: mg.f64[edge]
    y: mg.f64[3]


def molecule(rng, n, e):
    e = e if n else 0
    return Molecule(rng.normal(size=(n, 4)), rng.integers(0, max(n, 1), e), rng.integers(0, max(n, 1), e),
                    rng.normal(size=e), rng.normal(size=3))


SIZES = {"mixed": [(3, 4), (1, 2), (5, 9), (2, 1)],
         "empty first": [(0, 0), (3, 4), (2, 5)],
         "empty middle": [(3, 4), (0, 0), (0, 0), (2, 5)],
         "empty last": [(3, 4), (2, 5), (0, 0)],
         "all empty": [(0, 0), (0, 0)],
         "no edges": [(3, 0), (1, 0), (2, 0)],
         "one node": [(1, 0), (1, 3), (1, 1)],
         "one example": [(4, 7)],
         "accident of length": [(4, 4), (4, 4), (4, 4), (4, 4)]}


def molecules(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [molecule(rng, n, e) for n, e in sizes]


def unbatched(result):
    """Return the result for each example of what `vmap` returned for one leaf."""
    return result.unbatch() if isinstance(result, mg.Batch) else list(result)


def close(have, want, what="", tolerance=1e-9):
    have, want = np.asarray(have), np.asarray(want)
    assert have.shape == want.shape, f"{what}: shape {have.shape}, expected {want.shape}"
    np.testing.assert_allclose(have, want, rtol=tolerance, atol=tolerance, err_msg=what)
