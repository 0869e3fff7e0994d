import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(3)
X = torch.from_numpy(rng.normal(size=(200, 8)))
y = torch.sin(X[:, :1])
weights = {"0.weight": rng.normal(size=(16, 8)) / 3, "0.bias": np.zeros(16), "2.weight": rng.normal(size=(1, 16)) / 4,
           "2.bias": np.zeros(1)}
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(5):
    for batch in torch.arange(200).split(50):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X[batch]), y[batch])
        loss.backward()
        optimizer.step()
result = nn.functional.mse_loss(model(X), y).detach()
