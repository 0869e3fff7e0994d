"""A bidirectional LSTM over the characters of SMILES strings of all lengths, without padding.

The network is written for one string: a scan from its first character to its last, and one back. In a batch, each step
has the strings that still run, as in PyTorch's packed sequences, and the products with the characters are one product
for all. The network learns the polar surface area from the string that names the molecule. The same network on strings
that are padded to one length, with a state that a mask keeps, has the same error after more work.
"""

import time
from pathlib import Path

import numpy as np
from rdkit import RDConfig

import minigrad as mg

EPOCHS, WIDTH, UNITS, RATE = 3, 24, 48, 8e-3
char = mg.axis("char")


@mg.example
class Smiles:
    chars: mg.i32[char]
    area: mg.f32[()]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell(p, state, x):
    h, c = state
    keep, write, show, new = np.split(p["in"] @ x + p["again"] @ h + p["bias"], 4)
    c = sigmoid(keep + 1) * c + sigmoid(write) * np.tanh(new)
    return sigmoid(show) * np.tanh(c), c


def read(p, x, reverse):
    """Return the last state of an LSTM over the rows of x, and the sum of all states."""
    def step(carry, now):
        state, total = carry
        state = cell(p, state, now)
        return (state, total + state[0]), None

    zeros = np.zeros(UNITS, np.float32)
    ((h, _), total), _ = mg.scan(step, ((zeros, zeros), zeros), x, reverse=reverse)
    return h, total


def predict(p, s):
    x = mg.numpy.take(p["embed"], s.chars, axis=0)
    return sum(value @ p["out"] for way, reverse in (("forth", False), ("back", True))
               for value in read(p[way], x, reverse))


def loss(p, s):
    return np.sqrt(1 + (predict(p, s) - s.area / SCALE) ** 2) - 1


def padded_predict(p, chars, length):
    """Return the prediction for a string of `length` characters in a longer row, whose other steps change nothing."""
    def read_masked(way, reverse):
        def step(carry, now):
            state, total = carry
            k, t = now
            new = cell(p[way], state, p["embed"][k])
            runs = t < length
            state = tuple(np.where(runs, a, b) for a, b in zip(new, state, strict=True))
            return (state, total + np.where(runs, state[0], 0)), None

        zeros = np.zeros(UNITS, np.float32)
        ((h, _), total), _ = mg.scan(step, ((zeros, zeros), zeros), (chars, np.arange(chars.shape[0])), reverse=reverse)
        return h, total

    return sum(value @ p["out"] for way, reverse in (("forth", False), ("back", True))
               for value in read_masked(way, reverse))


def padded_loss(p, chars, length, area):
    return np.sqrt(1 + (padded_predict(p, chars, length) - area / SCALE) ** 2) - 1


def parameters(rng, alphabet):
    def matrix(n, m):
        return rng.normal(0, m ** -0.5, (n, m)).astype(np.float32)

    def lstm():
        return {"in": matrix(4 * UNITS, WIDTH), "again": matrix(4 * UNITS, UNITS),
                "bias": np.zeros(4 * UNITS, np.float32)}

    return {"embed": matrix(alphabet, WIDTH) * 4, "forth": lstm(), "back": lstm(), "out": matrix(1, UNITS)[0] / 10}


lines = Path(RDConfig.RDDataDir, "NCI", "first_5k.tpsa.csv").read_text().splitlines()[1:]
rows = [line.split(",") for line in lines]
alphabet = sorted({c for smiles, _ in rows for c in smiles})
strings = mg.batch([Smiles(chars=np.array([alphabet.index(c) for c in smiles], np.int32), area=np.float32(area))
                    for smiles, area in rows])
order = np.random.default_rng(0).permutation(len(strings))
train, held_out = strings[order[:4000]], strings[order[4000:]]
SCALE = np.float32(train.area.std())
longest = strings.lengths[char].max()
print(f"{strings}; padded they would be {len(strings) * longest / strings.lengths[char].sum():.1f} times as many")


@mg.compile
def step(params, state, batch, rate):  # the gradient and the update are one program
    value, gradient = mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0)))(params, batch)
    return value, *mg.optim.adam(rate).update(gradient, state, params)


loader = mg.DataLoader(train, batch_size=64, shuffle=True, seed=0)
predict_all = mg.compile(mg.vmap(predict, in_axes=(None, 0)))
params = parameters(np.random.default_rng(1), len(alphabet))
state = mg.optim.adam().init(params)
for epoch in range(EPOCHS):
    rate = RATE if epoch < EPOCHS - 1 else RATE / 5
    losses = []
    for batch in loader:
        value, params, state = step(params, state, batch, rate)
        losses.append(value)
    error = np.mean(np.abs(SCALE * predict_all(params, held_out) - held_out.area))
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, error of the area {error:.2f} Å²")
mean_error = np.mean(np.abs(train.area.mean() - held_out.area))
print(f"the mean of the others has an error of {mean_error:.2f} Å²")
assert len(step.entries) == 1

# The padded network: the same gradient, from more steps.
batch = held_out[np.arange(64)]
lengths = batch.lengths[char]
chars = np.stack([np.pad(s.chars, (0, int(lengths.max()) - len(s.chars))) for s in batch.unbatch()])
gradients = {
    "packed": (mg.compile(mg.grad(mg.mean_loss(loss, in_axes=(None, 0)))), (params, batch)),
    "padded": (mg.compile(mg.grad(mg.mean_loss(padded_loss, in_axes=(None, 0, 0, 0)))),
               (params, chars, lengths, batch.area))}
for name, (gradient, args) in gradients.items():
    gradient(*args)
    start = time.perf_counter()
    gradients[name] = gradient(*args)
    print(f"{name}: {1e3 * (time.perf_counter() - start):.0f} ms for the gradient of 64 strings")
worst = max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(*(
    [g["embed"], g["out"], g["forth"]["again"], g["back"]["in"]] for g in gradients.values()), strict=True))
print(f"largest difference of their gradients: {worst:.1e}")
assert worst < 1e-3
assert error < 0.35 * mean_error
