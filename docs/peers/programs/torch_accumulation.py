import numpy as np
import torch

rng = np.random.default_rng(4)
w = torch.from_numpy(rng.normal(size=5)).requires_grad_()
X, y = torch.from_numpy(rng.normal(size=(50, 5))), torch.from_numpy(rng.normal(size=50))

for some in torch.arange(50).split(8):  # the last chunk has 2 examples
    loss = torch.nn.functional.softplus(X[some] @ w * y[some]).sum() / 50
    loss.backward()  # adds to w.grad
result = w.grad.norm()
