import numpy as np
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing, global_mean_pool


class Messages(MessagePassing):
    def __init__(self):
        super().__init__(aggr="add")

    def forward(self, x, edge_index, edge_attr):
        return self.propagate(edge_index, x=x, edge_attr=edge_attr)

    def message(self, x_j, edge_attr):
        return torch.tanh(x_j + edge_attr)


rng = np.random.default_rng(7)
data = []
for n, m in ((4, 6), (1, 0), (7, 15)):
    arrays = {"x": rng.normal(size=(n, 3)), "edge_index": rng.integers(0, n, (2, m)),
              "edge_attr": rng.normal(size=(m, 4)), "y": rng.normal(size=(1, 4))}
    data.append(Data(**{name: torch.from_numpy(array) for name, array in arrays.items()}))
w = torch.from_numpy(rng.normal(size=(3, 4))).requires_grad_()

batch = Batch.from_data_list(data)
h = batch.x @ w
h = h + Messages()(h, batch.edge_index, batch.edge_attr)
loss = ((global_mean_pool(h, batch.batch) - batch.y) ** 2).sum(1).mean()
loss.backward()
result = w.grad.norm()
