"""A loop that ends when it has converged, after another number of steps for each example.

Each tumour's 30 standardised measurements are summed up by a robust centre (Huber's M-estimate): weights are
computed anew until the centre stands still. The batch runs until its last example is done.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

import minigrad as mg


def centre(x):
    def moving(state):
        _, change, steps = state
        return (np.abs(change) > 1e-10) & (steps < 100)

    def improve(state):
        m, _, steps = state
        weight = 1 / np.maximum(np.abs(x - m), 1.0)
        new = np.sum(weight * x) / np.sum(weight)
        return new, new - m, steps + 1

    m, _, steps = mg.while_loop(moving, improve, (np.mean(x), 1.0, 0))
    return m, steps


data = load_breast_cancer()
X = (data.data - data.data.mean(0)) / data.data.std(0)
m, steps = mg.compile(mg.vmap(centre))(X)
print(f"{len(X)} examples in {steps.max()} steps together; alone they need {steps.min()} to {steps.max()}")
print(f"largest |mean - robust centre|: {np.abs(X.mean(1) - m).max():.3f}")

loop = [centre(x) for x in X[:50]]
np.testing.assert_allclose(m[:50], [c for c, _ in loop], rtol=1e-12, atol=1e-14)
assert steps[:50].tolist() == [int(s) for _, s in loop]

# How the centre moves with the data: forward mode goes through the loop.
direction = np.ones(X.shape[1])
_, slope = mg.jvp(lambda x: centre(x)[0], (X[0],), (direction,))
print(f"moving all measurements by 1 moves the centre by {slope:.12f}")
np.testing.assert_allclose(slope, 1, rtol=1e-9)

# And a branch: each example takes its own, so log never sees a negative number.
signed = mg.vmap(lambda m: mg.cond(m > 0, np.log1p, lambda m: -np.log1p(-m), m))
np.testing.assert_allclose(signed(m), np.sign(m) * np.log1p(np.abs(m)), rtol=1e-12)
