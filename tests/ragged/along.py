"""What runs along ragged axes: the table of docs/howto/ragged.md, whose every entry `test_along` runs.

An entry is an expression of an example: `x` of shape (n, 3) and `n`, its number of rows.
"""

from types import SimpleNamespace

import numpy as np

import minigrad as mg
import minigrad.numpy as mnp

node = mg.axis("node")
KEY, KERNEL = mg.random.key(0), np.array([0.5, 2.0, -1.0])

WORKS = {
    "reductions": ["np.sum(x, axis=0)", "np.mean(x)", "np.prod(x, axis=0)", "np.max(x, axis=0)", "np.argmin(x[:, 0])",
                   "np.var(x, axis=0)", "np.linalg.norm(x, axis=0)", "np.any(x > 1)", "np.logaddexp.reduce(x, axis=0)",
                   "np.count_nonzero(x > 0, axis=0)", "np.trapezoid(x, axis=0)"],
    "order statistics": ["np.median(x, axis=0)", "np.quantile(x, [0.1, 0.5], axis=0)", "np.percentile(x, 30)",
                         "np.nanmedian(x, axis=0)", "np.sort(x, axis=0)", "np.argsort(x[:, 0])",
                         "np.partition(x, n // 2, axis=0)[n // 2]", "x[np.argsort(-x[:, 0])[:2]]",
                         "np.searchsorted(np.sort(x[:, 0]), 0.5)", "np.interp(0.5, np.sort(x[:, 0]), x[:, 1])",
                         "np.digitize(x, np.sort(x[:, 0]))"],
    "in order": ["np.cumsum(x, axis=0)", "np.cumprod(x, axis=0)", "np.maximum.accumulate(x, axis=0)",
                 "np.logaddexp.accumulate(x, axis=0)", "np.diff(x, axis=0)", "np.gradient(x, axis=0)",
                 "np.unwrap(x, axis=0)"],
    "slices": ["x[1:]", "x[:-1]", "x[::-1]", "x[::2]", "x[-2:]", "x[: n // 2]", "x[:np.sum(x[:, 0] > 0)]", "x[0]",
               "x[n // 2]", "np.array_split(x, 2)[0]", "x[x[:, 0] > 0]", "x[np.flatnonzero(x[:, 0] > 0)]"],
    "positions": ["np.flatnonzero(x[:, 0] > 0)", "np.nonzero(x > 0)[0]", "np.argwhere(x > 0)", "np.where(x > 0)[1]",
                  "np.tril_indices_from(x @ x.T)[0]", "np.unravel_index(np.argmax(x.T), (3, n))[1]"],
    "shapes": ["x.T", "x.ravel()", "np.ravel(x.T)", "np.tile(x, (2, 1))", "np.repeat(x, 2, axis=0)", "np.flip(x, 0)",
               "np.roll(x, 1, axis=0)", "np.concatenate([x, 2 * x])", "np.insert(x, 0, 0.0, axis=0)",
               "np.pad(x, ((1, 2), (0, 0)))", "np.pad(x, ((1, 1), (0, 0)), mode='reflect')"],
    "windows": ["np.convolve(x[:, 0], KERNEL)", "np.correlate(x[:, 0], KERNEL, 'same')",
                "np.convolve(x[:, 0], x[1:, 1])", "np.correlate(x[:, 0], x[:, 1], 'full')",
                "np.lib.stride_tricks.sliding_window_view(x, 2, axis=0)"],
    "blocks": ["x @ x.T", "np.tril(x @ x.T)", "np.diag(x @ x.T)", "np.trace(x @ x.T)",
               "np.argsort(x @ x.T, axis=1)[:, :2]", "np.sort(x @ x.T, axis=0)", "np.median(x @ x.T, axis=1)"],
    "matrices": ["x @ x.T @ x", "np.linalg.matrix_power(x @ x.T, 2)", "np.linalg.solve(x @ x.T + mnp.eye(n), x)",
                 "np.linalg.inv(x @ x.T + mnp.eye(n))", "np.linalg.slogdet(x @ x.T + mnp.eye(n))[1]",
                 "np.linalg.cholesky(x @ x.T + mnp.eye(n))", "np.linalg.eigvalsh(x @ x.T)[-1]",
                 "np.linalg.svd(x, full_matrices=False)[1]", "np.linalg.qr(x)[1]", "np.linalg.pinv(x)",
                 "np.linalg.lstsq(x, x[:, 0])[0]", "np.polyfit(x[:, 0], x[:, 1], 1)", "np.linalg.matrix_rank(x)",
                 "np.linalg.norm(x, 'nuc')", "np.linalg.cond(x)"],
    "sets": ["np.unique(x)", "np.unique(x > 0, return_counts=True)[1]", "np.unique(x[:, 0], return_inverse=True)[1]",
             "np.union1d(x[:, 0], x[:, 1])", "np.intersect1d(x[1:, 0], x[:-1, 0])", "np.setdiff1d(x[:, 0], x[:2, 0])",
             "np.bincount((x[:, 0] > 0).astype(int))", "np.trim_zeros(np.maximum(x[:, 0], 0))"],
    "transforms": ["mnp.fft.rfft_parts(x[:, 0])[0]", "np.fft.fftshift(x, axes=0)", "mnp.fft.rfftfreq(n, 0.1)"],
    "sizes": ["x.sum() / n", "np.sqrt(n)", "np.where(n > 3, 1.0, 0.0)", "np.where(n == 3, 1.0, 0.0)", "n // 2 + n % 2",
              "np.maximum(n, 4)"],
    "of `minigrad.numpy`": ["mnp.arange(n)", "mnp.arange(1, n, 2)", "mnp.linspace(0, 1, n)", "mnp.zeros((n, 2))",
                            "mnp.eye(n)", "mnp.tri(n)", "(x @ x.T)[mnp.tril_indices(n)]"],
    "of `mg.random`": ["mg.random.normal(KEY, (n, 3))", "mg.random.bernoulli(KEY, 0.5, (n, 1))",
                       "mg.random.permutation(KEY, x)", "mg.random.randint(KEY, (4,), 0, n)"]}

REFUSED = {
    "a size that Python needs": (["range(n)", "len(x)", "min(n, 3)", "1.0 if n == 3 else 0.0"],
                                 "np.minimum, np.where, np.equal; mg.scan for loops"),
    "a full basis": (["np.linalg.svd(x)", "np.linalg.qr(x, mode='complete')"], "full_matrices=False; the reduced QR"),
    "complex numbers": (["np.fft.rfft(x[:, 0])"], "minigrad.numpy.fft.rfft_parts")}


def rfft_parts(x):
    """Return the real and the imaginary part of NumPy's transform."""
    z = np.fft.rfft(x)
    return z.real, z.imag


PLAIN = SimpleNamespace(**{**vars(np), "fft": SimpleNamespace(**vars(np.fft), rfft_parts=rfft_parts)})


def evaluate(entry, x):
    """Return the value of an entry for one example, by NumPy on an array and by minigrad on a traced one."""
    plain = isinstance(x, np.ndarray)
    return eval(entry, {"np": np, "mg": mg, "mnp": PLAIN if plain else mnp, "x": x, "n": x.shape[0], "KEY": KEY,
                        "KERNEL": KERNEL})


def table():
    """Return the tables of the page."""
    def code(entries):
        return ", ".join(f"`{e}`" for e in entries)

    lines = ["| | along a ragged axis |", "|---|---|"]
    lines += [f"| {kind} | {code(entries)} |" for kind, entries in WORKS.items()]
    lines += ["", "| refused | for example | write |", "|---|---|---|"]
    lines += [f"| {kind} | {code(entries)} | {instead} |" for kind, (entries, instead) in REFUSED.items()]
    return "\n".join(lines)
