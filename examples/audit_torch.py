"""Gradient accumulation in PyTorch: which weight does each example have in the gradient?

Each loop below leaves the gradient of one optimizer step in its parameters, as loops in the wild do. Most have a fault
that no loss curve shows. `mg.audit` runs the loop as a black box, and finds the weight of each example from the loss of
one example, in NumPy, or from its gradient, by PyTorch.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset

import minigrad as mg

torch.set_num_threads(1)
torch.manual_seed(0)


def audit(model, accumulate, loss, examples, **options):
    """Print the verdict on a loop that leaves its gradient in the model's parameters."""
    def step(params, *batch):
        model.load_state_dict(params, strict=False)
        model.zero_grad()
        accumulate(*batch)
        return {k: p.grad for k, p in model.named_parameters()}

    step.__name__ = accumulate.__name__
    params = {k: p.detach().clone() for k, p in model.named_parameters()}
    report = mg.audit(step, loss, params, examples, progress=False, **options)
    print(f"{accumulate.__name__}: {report.verdict}")
    return report


# -- The mean over digits, in micro-batches of 4, 4, 4, 4, 4 and 3 ---------------------------------------------

digits = load_digits()
images, labels = torch.tensor(digits.data[:23] / 16), torch.tensor(digits.target[:23])
net = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()


def digit_loss(p, x, label):
    z = p["2.weight"] @ np.tanh(p["0.weight"] @ x + p["0.bias"]) + p["2.bias"]
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


def audit_digits(accumulate, **options):
    return audit(net, accumulate, digit_loss, (images, labels), **options)


def loader_of(x, y, **options):
    return DataLoader(TensorDataset(x, y), batch_size=4, **options)


def right(x, y):
    for xs, ys in loader_of(x, y):
        (F.cross_entropy(net(xs), ys, reduction="sum") / len(x)).backward()


audit_digits(right).check("mean")


def mean_of_means(x, y):
    loader = loader_of(x, y)
    for xs, ys in loader:
        (F.cross_entropy(net(xs), ys) / len(loader)).backward()  # the last micro-batch is smaller


report = audit_digits(mean_of_means)
assert [len(m) for m in report.microbatches] == [4, 4, 4, 4, 4, 3]
assert not report.right


def division_forgotten(x, y):
    for xs, ys in loader_of(x, y):
        F.cross_entropy(net(xs), ys).backward()


assert "times 6: the division by the 6 micro-batches is missing" in audit_digits(division_forgotten).verdict


def last_dropped(x, y):
    loader = loader_of(x, y, drop_last=True)
    for xs, ys in loader:
        (F.cross_entropy(net(xs), ys) / len(loader)).backward()


assert "examples 20–22 have weight 0" in audit_digits(last_dropped).verdict


def loss_scale_left_in(x, y):
    scale = 2.0**16  # of a GradScaler without unscale_
    for xs, ys in loader_of(x, y):
        (scale * F.cross_entropy(net(xs), ys, reduction="sum") / len(x)).backward()


assert "a loss scale of 2^16 left in" in audit_digits(loss_scale_left_in).verdict


def clipped_before_averaging(x, y):
    loader, total = loader_of(x, y), 0
    for xs, ys in loader:
        net.zero_grad()
        F.cross_entropy(net(xs), ys).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.8)
        total = total + nn.utils.parameters_to_vector(p.grad for p in net.parameters()) / len(loader)
    nn.utils.vector_to_parameters(total, [p.grad for p in net.parameters()])


report = audit_digits(clipped_before_averaging)
assert report.readings[0].name == "clipped micro-batches"
assert np.isclose(report.readings[0].bound, 0.8)


def decay_in_each_micro_batch(x, y):
    for xs, ys in loader_of(x, y):
        penalty = 0.01 / 2 * sum((p**2).sum() for p in net.parameters())
        (F.cross_entropy(net(xs), ys, reduction="sum") / len(x) + penalty).backward()


report = audit_digits(decay_in_each_micro_batch, extra={"weight decay": lambda p: {k: 0.01 * v for k, v in p.items()}})
assert "weight decay counts 6 times, not once" in report.verdict
assert not report.right

# -- The mean over the characters of lines of different length, padded -----------------------------------------

token = mg.axis("token")


@mg.example
class Line:
    codes: mg.i64[token]
    following: mg.i64[token]


text = [line for line in digits.DESCR.splitlines() if line.strip()][:12]
alphabet = sorted(set("".join(text)))
codes = [np.array([alphabet.index(c) for c in line]) for line in text]
lines = [Line(codes=c[:-1], following=c[1:]) for c in codes]
bigrams = nn.Sequential(nn.Embedding(len(alphabet), 8), nn.Tanh(), nn.Linear(8, len(alphabet))).double()


def line_loss(p, line):
    """Return the sum of the losses of a line's characters."""
    z = np.tanh(p["0.weight"][line.codes]) @ p["2.weight"].T + p["2.bias"]
    z = z - np.max(z, axis=1, keepdims=True)
    return np.sum(np.log(np.sum(np.exp(z), axis=1)) - np.take_along_axis(z, line.following[:, None], 1)[:, 0])


def audit_lines(accumulate):
    return audit(bigrams, accumulate, line_loss, lines, expected="mean over token")


def padded(some):
    codes = pad_sequence([torch.tensor(line.codes) for line in some], batch_first=True)
    return codes, pad_sequence([torch.tensor(line.following) for line in some], batch_first=True, padding_value=-100)


def cross_entropy(codes, following, **options):
    return F.cross_entropy(bigrams(codes).flatten(0, 1), following.flatten(), ignore_index=-100, **options)


def token_mean(some):
    count = sum(len(line.codes) for line in some)
    for batch in DataLoader(some, batch_size=5, collate_fn=padded):
        (cross_entropy(*batch, reduction="sum") / count).backward()


audit_lines(token_mean).check("mean over token")


def mean_of_token_means(some):  # as in the transformers library until 2024
    loader = DataLoader(some, batch_size=5, collate_fn=padded)
    for batch in loader:
        (cross_entropy(*batch) / len(loader)).backward()


report = audit_lines(mean_of_token_means)
assert [m.tolist() for m in report.microbatches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def padding_in_the_denominator(some):
    codes, following = padded(some)
    (cross_entropy(codes, following, reduction="sum") / codes.numel()).backward()


assert "padding counts in the denominator" in audit_lines(padding_in_the_denominator).verdict


def padding_predicted(some):
    codes, following = padded(some)
    cross_entropy(codes, following.clamp(min=0)).backward()  # ignore_index never occurs


assert audit_lines(padding_predicted).verdict.startswith("Examples mix")

# -- Leaks: the gradient of one example by PyTorch, in place of a loss in NumPy --------------------------------


def network(norm):
    return nn.Sequential(nn.Linear(64, 16), norm, nn.Tanh(), nn.Linear(16, 10)).double()


def audit_normalised(norm):
    model = network(norm)
    statistics = {k: b.clone() for k, b in model.named_buffers()}

    def loss(p, x, label):
        return F.cross_entropy(torch.func.functional_call(model.eval(), (p, statistics), x[None]), label[None])

    def normalised(x, y):
        F.cross_entropy(model.train()(x), y).backward()

    return audit(model, normalised, None, (images, labels), gradients=torch.func.grad(loss))


audit_normalised(nn.GroupNorm(4, 16)).check("mean")
assert "all interact" in audit_normalised(nn.BatchNorm1d(16)).verdict

encoder = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 8)).double()


def contrastive(x, y):
    upper, lower = (F.normalize(encoder(half), dim=1) for half in (x[:, :32], x[:, 32:]))
    F.cross_entropy(upper @ lower.T, torch.arange(len(x))).backward()  # the other digits are the negatives


def distance(p, x, label):
    """Return how far apart the halves of one digit are."""
    upper, lower = (F.normalize(torch.func.functional_call(encoder, p, half), dim=0) for half in (x[:32], x[32:]))
    return 1 - upper @ lower


report = audit(encoder, contrastive, None, (images, labels), gradients=torch.func.grad(distance))
assert "all interact" in report.verdict

# -- Precision: a right step passes in float64, in float32, and in bfloat16 under autocast -------------------

net.float()


def single_precision(x, y):
    right(x, y)


def autocast(x, y):
    with torch.autocast("cpu", torch.bfloat16):
        right(x, y)


def autocast_mean_of_means(x, y):
    with torch.autocast("cpu", torch.bfloat16):
        mean_of_means(x, y)


single = images.float(), labels
audit(net, single_precision, digit_loss, single).check("mean")
audit(net, autocast, digit_loss, single).check("mean")
assert len(audit(net, autocast_mean_of_means, digit_loss, single).microbatches) == 6
