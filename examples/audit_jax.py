"""Gradient accumulation in JAX and Optax: which weight does each example have in the update?

Each step below is a black box to `mg.audit`: it accumulates over micro-batches, by `optax.MultiSteps` or `lax.scan`,
clips the gradients of single examples, or batches sequences. The loss of one example is a function of JAX, and
`gradients=jax.grad(loss)` gives the gradients that the step should add up.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import minigrad as mg

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)


def audit(step, loss, params, examples, **options):
    gradients = jax.jit(jax.grad(loss))
    report = mg.audit(jax.jit(step), None, params, examples, gradients=gradients, progress=False, **options)
    print(f"{step.__name__}: {report.verdict}")
    return report


# -- The mean over digits ----------------------------------------------------------------------------------

digits = load_digits()
X, y = digits.data[:23] / 16, digits.target[:23]
params = {"W1": rng.normal(0, 0.2, (64, 16)), "b1": np.zeros(16),
          "W2": rng.normal(0, 0.2, (16, 10)), "b2": np.zeros(10)}


def loss(p, x, label):
    z = jnp.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return jax.nn.logsumexp(z) - z[label]


def mean_loss(p, x, y):
    return jax.vmap(loss, (None, 0, 0))(p, x, y).mean()


def multi_steps(params, micro_batches):
    """Return the update of plain SGD with rate 1, whose sign is that of the gradient."""
    optimizer = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=len(micro_batches))
    state = optimizer.init(params)
    for batch in micro_batches:
        update, state = optimizer.update(jax.grad(mean_loss)(params, *batch), state, params)
    return jax.tree.map(jnp.negative, update)


def multi_steps_of_equal_parts(p, x, y):
    return multi_steps(p, [(x[k:k + 4], y[k:k + 4]) for k in range(0, 20, 4)])


def multi_steps_of_unequal_parts(p, x, y):
    return multi_steps(p, [(x[k:k + 4], y[k:k + 4]) for k in range(0, 23, 4)])


audit(multi_steps_of_equal_parts, loss, params, (X[:20], y[:20])).check("mean")
report = audit(multi_steps_of_unequal_parts, loss, params, (X, y))
assert [len(m) for m in report.microbatches] == [4, 4, 4, 4, 4, 3]
assert not report.right


def scan(p, x, y):
    """Return the sum of the gradients of micro-batches of 4."""
    def add(total, batch):
        return jax.tree.map(jnp.add, total, jax.grad(mean_loss)(p, *batch)), None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, p), (x.reshape(-1, 4, 64), y.reshape(-1, 4)))[0]


def scanned(p, x, y):
    return jax.tree.map(lambda g: g / (len(x) // 4), scan(p, x, y))


def scanned_without_division(p, x, y):
    return scan(p, x, y)


def scanned_without_the_rest(p, x, y):
    whole = len(x) // 4 * 4
    return scanned(p, x[:whole], y[:whole])


audit(scanned, loss, params, (X[:20], y[:20])).check("mean")
assert "the division by 5 is missing" in audit(scanned_without_division, loss, params, (X[:20], y[:20])).verdict
assert "examples 20–22 have weight 0" in audit(scanned_without_the_rest, loss, params, (X, y)).verdict


def clipped_one_by_one(p, x, y):  # as in DP-SGD, without its noise
    def clipped(x, label):
        gradient = jax.grad(loss)(p, x, label)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        return jax.tree.map(lambda g: g * jnp.minimum(1, 3.5 / norm), gradient)

    return jax.tree.map(lambda g: g.mean(axis=0), jax.vmap(clipped)(x, y))


report = audit(clipped_one_by_one, loss, params, (X, y))
assert report.readings[0].name == "clipped"
assert np.isclose(report.readings[0].bound, 3.5)

# -- The mean over the characters of lines, padded or packed, with attention --------------------------------

text = [line for line in digits.DESCR.splitlines() if line.strip()][:10]
alphabet = sorted(set("".join(text)))
lengths = np.array([len(line) - 1 for line in text])
codes = np.array([[alphabet.index(c) for c in line.ljust(lengths.max() + 1)] for line in text])  # padded by blanks
lines = codes[:, :-1], codes[:, 1:], lengths  # the characters, the ones that follow them
shapes = {"embed": (len(alphabet), 8), "query": (8, 8), "key": (8, 8), "value": (8, 8), "out": (8, len(alphabet))}
weights = {k: rng.normal(0, 0.4, shape) for k, shape in shapes.items()}


def losses(p, codes, following, mask):
    """Return the loss of each following character, from the characters to which the mask lets one attend."""
    h = p["embed"][codes]
    scores = jnp.where(mask, (h @ p["query"]) @ (h @ p["key"]).T, -jnp.inf)
    logits = (h + jax.nn.softmax(scores, axis=1) @ (h @ p["value"])) @ p["out"]
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, following)


def causal(codes):
    return jnp.tri(len(codes), dtype=bool)


def line_loss(p, codes, following, length):
    """Return the sum of the losses of a line's characters, without the padding."""
    return jnp.sum(jnp.where(jnp.arange(len(codes)) < length, losses(p, codes, following, causal(codes)), 0))


def padded(p, *batch):
    return jax.grad(lambda p: jax.vmap(line_loss, (None, 0, 0, 0))(p, *batch).sum() / batch[2].sum())(p)


def mean_of_line_means(p, *batch):
    return jax.grad(lambda p: jnp.mean(jax.vmap(line_loss, (None, 0, 0, 0))(p, *batch) / batch[2]))(p)


def padding_takes_part(p, codes, following, lengths):
    return jax.grad(lambda p: jax.vmap(lambda c, f: losses(p, c, f, causal(c)))(codes, following).mean())(p)


tokens = {"lengths": {"token": lengths}, "expected": "mean over token"}
audit(padded, line_loss, weights, lines, **tokens).check("mean over token")
assert "the mean over 10 token means" in audit(mean_of_line_means, line_loss, weights, lines, **tokens).verdict
report = audit(padding_takes_part, line_loss, weights, lines, **tokens)
assert "not the gradient of this loss" in report.verdict
assert "The numbers in the padding matter." in report.verdict


def packed_with_segments(p, codes, following, lengths):
    """Return the gradient of the mean over lines of one length, packed into one sequence."""
    line = jnp.repeat(jnp.arange(len(codes)), codes.shape[1])
    mask = causal(line) & (line[:, None] == line)
    return jax.grad(lambda p: losses(p, codes.ravel(), following.ravel(), mask).mean())(p)


def packed_without_segments(p, codes, following, lengths):
    return jax.grad(lambda p: losses(p, codes.ravel(), following.ravel(), causal(codes.ravel())).mean())(p)


long = lengths >= 16
sixteen = codes[long, :16], codes[long, 1:17], np.full(long.sum(), 16)
tokens["lengths"] = {"token": sixteen[2]}
audit(packed_with_segments, line_loss, weights, sixteen, **tokens).check("mean over token")
assert "Examples mix" in audit(packed_without_segments, line_loss, weights, sixteen, **tokens).verdict
