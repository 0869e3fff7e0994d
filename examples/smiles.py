"""Self-attention over the characters of SMILES strings of all lengths, without padding.

Each molecule's attention is a square of its own size, written as for one molecule: ``q @ k.T``. In a batch the squares
lie one behind the other, so that no character looks at another molecule's, and nothing is spent on padding. The network
learns the polar surface area from the string that names the molecule.
"""

from pathlib import Path

import numpy as np
from rdkit import RDConfig

import minigrad as mg

EPOCHS, WIDTH, RATE = 4, 32, 4e-3
char = mg.axis("char")


@mg.example
class Smiles:
    chars: mg.i32[char]
    place: mg.f32[char]
    area: mg.f32[()]


def attention(p, h, place):
    """Let each character look at all others of its string; the last term knows how far away they are."""
    distance = place[:, None] - place[None, :]
    scores = (h @ p["query"]) @ (h @ p["key"]).T / np.sqrt(np.float32(WIDTH))
    scores = scores - np.exp(p["reach"]) * np.log1p((distance - p["ahead"]) ** 2)
    weights = np.exp(scores - mg.stop_gradient(np.max(scores, axis=1, keepdims=True)))
    return (weights / np.sum(weights, axis=1, keepdims=True)) @ (h @ p["value"])


def predict(p, s):
    h = p["embed"][s.chars]
    for layer in p["layers"]:
        seen = sum(attention(head, h, s.place) for head in layer["heads"])
        h = np.maximum(h @ layer["keep"] + seen + layer["bias"], 0)
    return np.sum(h @ p["out"])


def loss(p, s):
    return np.sqrt(1 + (predict(p, s) - s.area / SCALE) ** 2) - 1


def parameters(rng, alphabet):
    def matrix(n, m):
        return rng.normal(0, n ** -0.5, (n, m)).astype(np.float32)

    def head(ahead):
        return {"query": matrix(WIDTH, WIDTH), "key": matrix(WIDTH, WIDTH), "value": matrix(WIDTH, WIDTH),
                "ahead": np.float32(ahead), "reach": np.float32(0.5)}

    layers = [{"heads": [head(k) for k in (-1, 1)], "keep": matrix(WIDTH, WIDTH), "bias": np.zeros(WIDTH, np.float32)}
              for _ in range(2)]
    return {"embed": matrix(alphabet, WIDTH) * 4, "layers": layers, "out": matrix(WIDTH, 1)[:, 0] / 10}


lines = Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]
rows = [line.split(",") for line in lines]
alphabet = sorted({c for smiles, _ in rows for c in smiles})
strings = mg.batch([
    Smiles(chars=np.array([alphabet.index(c) for c in smiles], np.int32),
           place=np.arange(len(smiles), dtype=np.float32), area=np.float32(area)) for smiles, area in rows])
order = np.random.default_rng(0).permutation(len(strings))
train, held_out = strings[order[:4000]], strings[order[4000:]]
SCALE = np.float32(train.area.std())
longest, characters = strings.lengths[char].max(), strings.lengths[char].sum()
print(f"{strings}; padded they would be {len(strings) * longest / characters:.1f} times as many, "
      f"and their squares {len(strings) * longest**2 / (strings.lengths[char] ** 2).sum():.0f} times as large")

loader = mg.DataLoader(train, batch_size=64, shuffle=True, seed=0)
@mg.compile
def step(params, state, batch, rate):  # the gradient and the update are one program
    value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))(params, batch)
    return value, *mg.optim.adam(rate).update(gradient, state, params)


predict_all = mg.compile(mg.vmap(predict, in_axes=(None, 0)))
params = parameters(np.random.default_rng(1), len(alphabet))
state = mg.optim.adam().init(params)
for epoch in range(EPOCHS):
    rate = RATE if epoch < EPOCHS - 2 else RATE / 5
    losses = []
    for batch in loader:
        value, params, state = step(params, state, batch, rate)
        losses.append(value)
    error = np.mean(np.abs(SCALE * predict_all(params, held_out) - held_out.area))
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, error of the area {error:.2f} Å²")
mean_error = np.mean(np.abs(train.area.mean() - held_out.area))
print(f"the mean of the others has an error of {mean_error:.2f} Å²")
assert len(step.entries) == 1
assert error < 0.25 * mean_error
