import numpy as np
import torch

rng = np.random.default_rng(5)
sizes = [(4, 6), (1, 0), (7, 15)]  # nodes and edges of three graphs
xs = [rng.normal(size=(n, 3)) for n, _ in sizes]
edges = [rng.integers(0, n, size=(2, m)) for n, m in sizes]
w = torch.from_numpy(rng.normal(size=(3, 4))).requires_grad_()

counts = torch.tensor([n for n, _ in sizes])
offsets = torch.cumsum(counts, 0) - counts
x = torch.from_numpy(np.concatenate(xs))
src, dst = torch.from_numpy(np.concatenate([e + o.item() for e, o in zip(edges, offsets, strict=True)], axis=1))
graph = torch.repeat_interleave(torch.arange(3), counts)

h = torch.tanh(x @ w)
received = torch.zeros_like(h).index_add(0, dst, h[src])
pooled = torch.zeros(3, 4, dtype=h.dtype).index_add(0, graph, received + h) / counts[:, None]
loss = (pooled**2).sum(1).mean()
loss.backward()
result = w.grad.norm()
