"""A function with a derivative of its own: ridge regression fitted by iteration, differentiated at its solution.

The loop runs until it has converged, so reverse mode has nothing to walk back through. It need not: at the
minimum the gradient is zero, and the implicit function theorem says how the minimum moves. `custom_vjp` puts that
rule beside the function; batches, forward mode and further derivatives follow from it.
"""

import numpy as np
from sklearn.datasets import load_diabetes

import minigrad as mg

data = load_diabetes()
X, y = data.data * 10, (data.target - data.target.mean()) / data.target.std()
train, held_out = np.arange(0, 300), np.arange(300, len(X))
A, b = X[train].T @ X[train] / len(train), X[train].T @ y[train] / len(train)


def rule(g, w, strength):
    # (A + λI) w = b, so dw = -(A + λI)⁻¹ w dλ.
    return (-np.linalg.solve(A + strength * np.eye(len(b)), g) @ w,)


@mg.custom_vjp(rule)
def fit(strength):
    """Minimise the mean squared error with a penalty, by gradient descent until the step is nothing."""
    rate = 1 / (np.linalg.norm(A) + strength)

    def moving(state):
        _, step = state
        return np.abs(step).max() > 1e-13

    def move(state):
        w, _ = state
        step = rate * (A @ w + strength * w - b)
        return w - step, step

    return mg.while_loop(moving, move, (np.zeros(len(b)), np.ones(len(b))))[0]


def error(strength):
    return np.mean((X[held_out] @ fit(strength) - y[held_out]) ** 2)


strengths = np.array([0.01, 0.03, 0.1, 0.3])
values, slopes = mg.compile(mg.vmap(mg.value_and_grad(error)))(strengths)
for s, v, d in zip(strengths, values, slopes, strict=True):
    print(f"penalty {s:4.2f}: held-out error {v:.5f}, slope {d:+.5f}")

# Against the closed form, and against finite differences through the whole loop.
direct = mg.vmap(mg.grad(lambda s: np.mean((X[held_out] @ np.linalg.solve(A + s * np.eye(10), b) - y[held_out]) ** 2)))
np.testing.assert_allclose(slopes, direct(strengths), rtol=1e-8)
near = (error(0.1 + 1e-5) - error(0.1 - 1e-5)) / 2e-5
np.testing.assert_allclose(slopes[2], near, rtol=1e-5)

# The derivative serves gradient descent on the penalty itself.
tune = mg.compile(mg.value_and_grad(lambda log: error(np.exp(log))))
log = np.log(0.3)
for _ in range(60):
    value, slope = tune(log)
    log = log - 20 * slope
print(f"best penalty {np.exp(log):.4f}: held-out error {value:.5f}")
assert value < values.min() + 1e-6
