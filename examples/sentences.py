"""A bidirectional LSTM over the characters of SMILES strings of all lengths, without padding.

The network is written for one string: a scan from its first character to its last, and one back. In a batch, each step
has the strings that still run, as in PyTorch's packed sequences, and the products with the characters are one product
for all. The network learns the polar surface area from the string that names the molecule. The same network on strings
that are padded to one length, with a state that a mask keeps, has the same error after more work. Where PyTorch is
installed, its LSTM learns from the padded strings beside it: the same weights, the same batches.
"""

import importlib
import importlib.util
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
epochs = [(RATE if epoch < EPOCHS - 1 else RATE / 5, list(loader)) for epoch in range(EPOCHS)]
predict_all = mg.compile(mg.vmap(predict, in_axes=(None, 0)))
initial = params = parameters(np.random.default_rng(1), len(alphabet))
state = mg.optim.adam().init(params)
seconds = 0.0
for epoch, (rate, batches) in enumerate(epochs):
    losses, start = [], time.perf_counter()
    for batch in batches:
        value, params, state = step(params, state, batch, rate)
        losses.append(value)
    seconds += time.perf_counter() - start
    error = np.mean(np.abs(SCALE * predict_all(params, held_out) - held_out.area))
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, error of the area {error:.2f} Å²")
mean_error = np.mean(np.abs(train.area.mean() - held_out.area))
print(f"the mean of the others has an error of {mean_error:.2f} Å²")
assert len(step.entries) == 1


def train_padded(torch):
    """Train the padded network in PyTorch, and return its error and the seconds of its steps.

    The state of the way back must not see the padding, so each string is turned around within its length.
    """
    order = np.concatenate([np.arange(UNITS) + k * UNITS for k in (1, 0, 3, 2)])  # PyTorch's: write, keep, new, show
    embed, out = (torch.tensor(initial[name], requires_grad=True) for name in ("embed", "out"))
    ways = {"forth": torch.nn.LSTM(WIDTH, UNITS), "back": torch.nn.LSTM(WIDTH, UNITS)}
    for way, net in ways.items():
        bias = initial[way]["bias"] + np.repeat([1, 0, 0, 0], UNITS).astype(np.float32)  # `cell` adds 1 to keep
        values = initial[way]["in"][order], initial[way]["again"][order], bias[order], np.zeros_like(bias)
        with torch.no_grad():
            for own, value in zip(net.parameters(), values, strict=True):
                own.copy_(torch.from_numpy(value))
        net.bias_hh_l0.requires_grad_(False)  # one bias, as ours

    def padded(batch):
        lengths = torch.from_numpy(batch.lengths[char])
        strings = [torch.from_numpy(s.chars).long() for s in batch.unbatch()]
        return torch.nn.utils.rnn.pad_sequence(strings), lengths, torch.from_numpy(batch.area) / float(SCALE)

    def predicted(chars, lengths):
        t = torch.arange(len(chars))[:, None]
        runs = t < lengths
        back = torch.gather(chars, 0, torch.where(runs, lengths - 1 - t, t))
        total = 0.0
        for way, x in (("forth", chars), ("back", back)):
            h, _ = ways[way](torch.nn.functional.embedding(x, embed))
            total = total + (h * runs[..., None]).sum(0) @ out + h[lengths - 1, torch.arange(len(lengths))] @ out
        return total

    weights = [embed, out, *(p for net in ways.values() for p in net.parameters() if p.requires_grad)]
    optimizer = torch.optim.Adam(weights, lr=RATE)
    seconds = 0.0
    for rate, batches in epochs:
        optimizer.param_groups[0]["lr"] = rate
        for chars, lengths, area in map(padded, batches):
            start = time.perf_counter()
            value = (torch.sqrt(1 + (predicted(chars, lengths) - area) ** 2) - 1).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seconds += time.perf_counter() - start
    with torch.no_grad():
        chars, lengths, area = padded(held_out)
        return float(SCALE) * (predicted(chars, lengths) - area).abs().mean().item(), seconds


print(f"without padding, minigrad: error {error:.2f} Å², {seconds:.1f} s of training, compilation included")
if importlib.util.find_spec("torch"):
    torch_error, torch_seconds = train_padded(importlib.import_module("torch"))
    print(f"with padding, PyTorch: error {torch_error:.2f} Å², {torch_seconds:.1f} s of training")
    assert abs(torch_error - error) < 0.1 * error  # round-off alone tells them apart, which training amplifies
else:
    print("with padding, PyTorch: it is not installed here")

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
