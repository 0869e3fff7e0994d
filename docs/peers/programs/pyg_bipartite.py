import numpy as np
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter


class Club(Data):
    def __inc__(self, key, value, *args, **kwargs):
        if key == "edge_index":  # users and films are shifted by different numbers
            return torch.tensor([[self.users.size(0)], [self.films.size(0)]])
        return super().__inc__(key, value, *args, **kwargs)


rng = np.random.default_rng(8)
clubs = []
for n, m, k in ((3, 5, 7), (2, 1, 2), (6, 4, 15)):
    ends = np.stack([rng.integers(0, n, k), rng.integers(0, m, k)])
    clubs.append(Club(users=torch.from_numpy(rng.normal(size=(n, 3))), films=torch.from_numpy(rng.normal(size=(m, 2))),
                      edge_index=torch.from_numpy(ends), stars=torch.from_numpy(rng.normal(size=k)), num_nodes=n))
u = torch.from_numpy(rng.normal(size=(3, 4))).requires_grad_()
f = torch.from_numpy(rng.normal(size=(2, 4))).requires_grad_()

batch = Batch.from_data_list(clubs, follow_batch=["users"])
who, which = batch.edge_index
error = ((batch.users @ u)[who] * (batch.films @ f)[which]).sum(1) - batch.stars
club = batch.users_batch[who]  # the club of each rating
loss = scatter(error**2, club, dim_size=len(clubs), reduce="mean").mean()
loss.backward()
result = u.grad.norm() + f.grad.norm()
