"""A network written for one molecule, trained on 4,000 of all sizes, in mini-batches.

RDKit ships molecules of the National Cancer Institute with their polar surface area, which the network learns from
atoms and bonds: each atom sends a message along its bonds, three times, and the area is a sum over the atoms.
If torch_geometric is installed, its model of the same parameters is trained on the same batches beside it.
"""

import time
import warnings
from pathlib import Path

import numpy as np
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem.rdMolDescriptors import CalcTPSA

import minigrad as mg

ELEMENTS = ["C", "O", "N", "S", "Cl", "Br", "F", "P", "I"]
BONDS = ["SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"]
EPOCHS, WIDTH, LAYERS, RATE = 6, 48, 3, 3e-3
atom, bond = mg.axis("atom"), mg.axis("bond")


@mg.example
class Molecule:
    atoms: mg.f32[atom, len(ELEMENTS) + 4]
    bonds: mg.f32[bond, len(BONDS)]
    src: mg.index(atom)[bond]
    dst: mg.index(atom)[bond]
    area: mg.f32[()]


def features(a):
    return [*(a.GetSymbol() == e for e in ELEMENTS), a.GetTotalNumHs(), a.GetFormalCharge(), a.GetDegree(), 1]


def molecule(mol, area):
    begin, end = ([getattr(b, f"Get{which}AtomIdx")() for b in mol.GetBonds()] for which in ("Begin", "End"))
    kinds = [[str(b.GetBondType()) == k for k in BONDS] for b in mol.GetBonds()]
    return Molecule(atoms=np.array([features(a) for a in mol.GetAtoms()], np.float32),
                    bonds=np.array(kinds * 2, np.float32).reshape(-1, len(BONDS)),  # every bond in both directions
                    src=begin + end, dst=end + begin, area=np.float32(area))


def predict(p, m):
    h = np.maximum(m.atoms @ p["embed"], 0)
    for layer in p["layers"]:
        message = np.maximum((h @ layer["send"])[m.src] + m.bonds @ layer["bond"], 0)
        received = mg.segment_sum(message, m.dst, m.atoms.shape[0])
        h = np.maximum(h @ layer["keep"] + received @ layer["take"] + layer["bias"], 0)
    return np.sum(h @ p["out"])


def loss(p, m):
    return np.sqrt(1 + (predict(p, m) - m.area / SCALE) ** 2) - 1  # squared where small, absolute where large


def parameters(rng):
    def matrix(n, m):
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    layers = [{"send": matrix(WIDTH, WIDTH), "bond": matrix(len(BONDS), WIDTH), "keep": matrix(WIDTH, WIDTH),
               "take": matrix(WIDTH, WIDTH) / 2, "bias": np.zeros(WIDTH, np.float32)} for _ in range(LAYERS)]
    return {"embed": matrix(len(ELEMENTS) + 4, WIDTH), "layers": layers, "out": matrix(WIDTH, 1)[:, 0] / 10}


# The file's areas were computed by another program; RDKit's agree on all molecules that it can read, but two.
lines = Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]
with rdBase.BlockLogs():
    read = [(Chem.MolFromSmiles(smiles), float(area)) for smiles, area in (line.split(",") for line in lines)]
read = [(mol, area) for mol, area in read if mol is not None]
differing = sum(abs(CalcTPSA(mol) - area) > 0.02 for mol, area in read)
print(f"{len(lines)} molecules, {len(read)} can be read, {differing} have another area by RDKit")
assert len(read) > 4900
assert differing <= 5

molecules = mg.batch([molecule(mol, area) for mol, area in read])  # packed: a mini-batch of it is a gather
order = np.random.default_rng(0).permutation(len(molecules))
train, held_out = molecules[order[:4000]], molecules[order[4000:]]
SCALE = np.float32(train.area.std())
loader = mg.DataLoader(train, batch_size=64, shuffle=True, seed=0)
print(f"{molecules}\nmini-batches such as {next(iter(loader))}\n")
loader.epoch = 0


def error(guess):
    return np.mean(np.abs(guess - held_out.area))


@mg.compile
def step(params, state, batch, rate):  # the gradient and the update are one program
    value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))(params, batch)
    return value, *mg.optim.adam(rate).update(gradient, state, params)


predict_all = mg.compile(mg.vmap(predict, in_axes=(None, 0)))
params = start = parameters(np.random.default_rng(1))
state, began = mg.optim.adam().init(params), time.perf_counter()
for epoch in range(EPOCHS):
    rate = RATE if epoch < EPOCHS - 2 else RATE / 5
    losses = []
    for batch in loader:
        value, params, state = step(params, state, batch, rate)
        losses.append(value)
    if epoch % 2:
        found = error(SCALE * predict_all(params, held_out))
        print(f"epoch {epoch + 1:2d}: loss {np.mean(losses):.4f}, error of the area {found:.2f} Å²")
took = time.perf_counter() - began
assert len(step.entries) == 1, "one program for batches of all sizes"


def with_pyg():
    """Train the same model by PyTorch Geometric: the same parameters, batches and optimizer."""
    with warnings.catch_warnings():  # of its own
        warnings.simplefilter("ignore")
        import torch
        from torch_geometric.data import Batch
        from torch_geometric.nn import MessagePassing, global_add_pool

    class Net(MessagePassing):
        def __init__(self):
            super().__init__(aggr="add")
            self.embed, self.out = (torch.nn.Parameter(torch.tensor(start[k])) for k in ("embed", "out"))
            self.layers = torch.nn.ModuleList(
                torch.nn.ParameterDict({k: torch.tensor(v) for k, v in layer.items()}) for layer in start["layers"])

        def forward(self, b):
            h = torch.relu(b.atoms @ self.embed)
            for p in self.layers:
                received = self.propagate(b.edge_index, sent=h @ p["send"], along=b.edge_attr @ p["bond"])
                h = torch.relu(h @ p["keep"] + received @ p["take"] + p["bias"])
            return global_add_pool(h @ self.out, b.batch, b.num_graphs)

        def message(self, sent_j, along):
            return torch.relu(sent_j + along)

    graphs = [mg.to_pyg(m, {"bonds": "edge_attr"}) for m in train.unbatch()]
    test = Batch.from_data_list([mg.to_pyg(m, {"bonds": "edge_attr"}) for m in held_out.unbatch()])
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for epoch in range(EPOCHS):
        if epoch == EPOCHS - 2:
            optimizer.param_groups[0]["lr"] = RATE / 5
        for which in loader.batches(epoch):
            b = Batch.from_data_list([graphs[i] for i in which])
            optimizer.zero_grad()
            (torch.sqrt(1 + (net(b) - b.area / SCALE) ** 2) - 1).mean().backward()
            optimizer.step()
    with torch.no_grad():
        return error(SCALE * net(test).numpy())


print(f"\nerror on {len(held_out)} held-out molecules")
print(f"  the mean of the others    {error(train.area.mean()):6.2f} Å²")
print(f"  minigrad                  {found:6.2f} Å², {took:.1f} s")
try:
    began = time.perf_counter()
    print(f"  PyTorch Geometric         {with_pyg():6.2f} Å², {time.perf_counter() - began:.1f} s")
except ModuleNotFoundError as missing:
    print(f"  PyTorch Geometric         ({missing.name} is not installed)")
assert found < 0.2 * error(train.area.mean())
