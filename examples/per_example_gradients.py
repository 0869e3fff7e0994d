"""One gradient per example: which flowers pull hardest on the model?

`per_example_grad` is vmap(grad(f)): nothing is hooked into layers, and any loss in NumPy will do.
"""

import numpy as np
from sklearn.datasets import load_iris

import minigrad as mg


def loss(params, x, label):
    z = x @ params["W"] + params["b"]
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


iris = load_iris()
X, labels = (iris.data - iris.data.mean(0)) / iris.data.std(0), iris.target
params = {"W": np.zeros((4, 3)), "b": np.zeros(3)}
axes = (None, 0, 0)

mean_gradient = mg.grad(mg.mean_loss(loss, in_axes=axes))
init, update = mg.optim.momentum(0.5)
step = mg.compile(lambda params, state: update(mean_gradient(params, X, labels), state, params))
state = init(params)
for _ in range(200):
    params, state = step(params, state)

gradients = mg.compile(mg.per_example_grad(loss, in_axes=axes))(params, X, labels)
norms = np.sqrt(sum((g.reshape(len(X), -1) ** 2).sum(1) for g in gradients.values()))
for i in np.argsort(norms)[::-1][:5]:
    logits = X[i] @ params["W"] + params["b"]
    print(f"flower {i:3d}, {iris.target_names[labels[i]]:>10}: gradient norm {norms[i]:.3f}, "
          f"predicted {iris.target_names[logits.argmax()]}")

# Against the loop, and against the mean gradient.
loop = [mg.grad(loss)(params, x, label) for x, label in zip(X, labels, strict=True)]
for k in params:
    np.testing.assert_allclose(gradients[k], [g[k] for g in loop], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradients[k].mean(0), mean_gradient(params, X, labels)[k], rtol=1e-9, atol=1e-12)
print("equal to a loop over the", len(X), "flowers")
