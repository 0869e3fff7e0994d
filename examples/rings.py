"""Atoms and rings: examples with two kinds of nodes, which grow at different rates, and a network between the two.

An index says which axis it points into, `atom` or `ring`, and that is all a batch has to know. The network learns how
many bonds of a molecule can rotate. It sees no bonds, but a bond within a ring cannot: so it is of use that a ring
looks at its atoms, and that they look at their rings. A quarter of the molecules has no ring at all.
"""

from pathlib import Path

import numpy as np
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds

import minigrad as mg

ELEMENTS = ["C", "O", "N", "S", "Cl", "Br", "F", "P", "I"]
EPOCHS, WIDTH, RATE = 15, 32, 5e-3
atom, ring, member = mg.axis("atom"), mg.axis("ring"), mg.axis("member")


@mg.example
class Molecule:
    atoms: mg.f32[atom, len(ELEMENTS) + 4]
    ring_size: mg.f32[ring]
    member_atom: mg.index(atom)[member]  # one for each atom of each ring
    member_ring: mg.index(ring)[member]
    rotatable: mg.f32[()]


def molecule(mol):
    rings = [list(r) for r in mol.GetRingInfo().AtomRings()]
    atoms = [[*(a.GetSymbol() == e for e in ELEMENTS), a.GetTotalNumHs(), a.GetFormalCharge(), a.GetDegree(), 1]
             for a in mol.GetAtoms()]
    return Molecule(atoms=np.array(atoms, np.float32), ring_size=np.array([len(r) / 6 for r in rings], np.float32),
                    member_atom=[a for r in rings for a in r], member_ring=[k for k, r in enumerate(rings) for _ in r],
                    rotatable=np.float32(CalcNumRotatableBonds(mol)))


def predict(p, m):
    atoms, rings = m.atoms.shape[0], m.ring_size.shape[0]
    h = np.maximum(m.atoms @ p["atom"], 0)
    if "ring" in p:
        r = np.maximum(mg.segment_mean((h @ p["to_ring"])[m.member_atom], m.member_ring, rings)
                       + m.ring_size[:, None] * p["ring"], 0)
        h = np.maximum(h @ p["keep"] + mg.segment_sum((r @ p["to_atom"])[m.member_ring], m.member_atom, atoms), 0)
    h = np.maximum(h @ p["hidden"] + p["bias"], 0)
    return np.sum(h @ p["out"])


def loss(p, m):
    return np.sqrt(1 + (predict(p, m) - m.rotatable) ** 2) - 1


def parameters(with_rings):
    rng = np.random.default_rng(1)

    def matrix(n, m):
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    between = {"to_ring": matrix(WIDTH, WIDTH), "ring": matrix(1, WIDTH)[0], "to_atom": matrix(WIDTH, WIDTH),
               "keep": matrix(WIDTH, WIDTH)}
    return {"atom": matrix(len(ELEMENTS) + 4, WIDTH), "hidden": matrix(WIDTH, WIDTH),
            "bias": np.zeros(WIDTH, np.float32), "out": matrix(WIDTH, 1)[:, 0] / 10, **(between if with_rings else {})}


lines = Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]
with rdBase.BlockLogs():
    read = [mol for line in lines if (mol := Chem.MolFromSmiles(line.split(",")[0])) is not None]
molecules = mg.batch([molecule(mol) for mol in read])
molecules = molecules[molecules.rotatable < 25]
order = np.random.default_rng(0).permutation(len(molecules))
train, held_out = molecules[order[:4000]], molecules[order[4000:]]
print(f"{molecules}, {np.mean(molecules.lengths[ring] == 0):.0%} without a ring")


def train_and_test(params):
    @mg.compile
    def step(params, state, batch, rate):
        value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))(params, batch)
        return value, *mg.optim.adam(rate).update(gradient, state, params)

    state = mg.optim.adam().init(params)
    # As many molecules in a batch as have a thousand atoms between them, and no more than 600 atoms of rings.
    loader = mg.DataLoader(train, max_rows={atom: 1000, member: 600}, shuffle=True, seed=0)
    for epoch in range(EPOCHS):
        rate = RATE if epoch < EPOCHS * 2 // 3 else RATE / 5
        for batch in loader:
            _, params, state = step(params, state, batch, rate)
    assert len(step.entries) == 1
    return np.mean(np.abs(mg.compile(mg.vmap(predict, in_axes=(None, 0)))(params, held_out) - held_out.rotatable))


print(f"error of the number of rotatable bonds on {len(held_out)} held-out molecules")
print(f"  the mean of the others  {np.mean(np.abs(train.rotatable.mean() - held_out.rotatable)):.3f}")
alone = train_and_test(parameters(with_rings=False))
print(f"  atoms alone             {alone:.3f}")
both = train_and_test(parameters(with_rings=True))
print(f"  atoms and rings         {both:.3f}")
assert both < 0.6 * alone
