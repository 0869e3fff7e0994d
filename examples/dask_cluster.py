"""Norms of the gradients of single examples and the mean gradient, on the workers of a Dask cluster.

The examples lie in a file, which each worker opens; parameters and results are all that travels. A real cluster differs
in the client's address alone: ``Client("tcp://scheduler:8786")``.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

import minigrad as mg

ROWS, COLUMNS = 400_000, 32


def loss(w, row):
    """Return the squared error of a linear model; the last column is the target."""
    return (np.dot(w, row[:-1]) - row[-1]) ** 2


def main():
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError:
        print("skipped: needs dask.distributed (pip install minigrad[dask])")
        return
    rng = np.random.default_rng(0)
    w = rng.normal(size=COLUMNS - 1).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, rng.normal(size=(ROWS, COLUMNS)).astype(np.float32))
        rows = np.load(path, mmap_mode="r")
        with (LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
              Client(cluster) as client):
            gradient = mg.distribute(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))), client, parts=4)
            norms = mg.distribute(mg.per_example.norms(loss, in_axes=(None, 0)), client, parts=4, in_axes=(None, 0))
            gradient(w, rows)  # sends and builds the program
            start = time.perf_counter()
            value, mean = gradient(w, rows)
            seconds = time.perf_counter() - start
            sizes = norms(w, rows)
    x, y = np.split(np.asarray(rows, np.float64), [-1], axis=1)
    error = x @ w - y[:, 0]
    np.testing.assert_allclose(mean, 2 * error @ x / ROWS, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(sizes, 2 * np.abs(error) * np.linalg.norm(x, axis=1), rtol=1e-3, atol=1e-3)
    print(f"{ROWS:,} rows on 2 workers: mean loss {value:.4f}, largest gradient norm {sizes.max():.1f}; "
          f"{ROWS / seconds / 1e6:.1f} million examples a second")


if __name__ == "__main__":
    main()
