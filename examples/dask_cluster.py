"""Norms of the gradients of single examples and the mean gradient, on the workers of a Dask cluster.

The rows are a Dask array, whose chunks lie on the workers, or a file, which each worker opens; parameters and sums are
all that travels. A real cluster differs in the client's address alone: ``Client("tcp://scheduler:8786")``.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

import minigrad as mg

ROWS, COLUMNS, CHUNK = 400_000, 32, 50_000


def loss(w, row):
    """Return the squared error of a linear model; the last column is the target."""
    return (np.dot(w, row[:-1]) - row[-1]) ** 2


def main():
    try:
        import dask.array as da
        from dask.distributed import Client, LocalCluster
    except ImportError:
        print("skipped: needs dask.distributed (pip install minigrad[dask])")
        return
    w = np.random.default_rng(0).normal(size=COLUMNS - 1).astype(np.float32)
    with (LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client,
          tempfile.TemporaryDirectory() as folder):
        rows = da.random.default_rng(0).normal(size=(ROWS, COLUMNS), chunks=(CHUNK, -1)).astype(np.float32).persist()
        gradient = mg.distribute(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))), client)
        norms = mg.distribute(mg.per_example.norms(loss, in_axes=(None, 0)), client, in_axes=(None, 0))
        gradient(w, rows)  # sends and builds the program
        start = time.perf_counter()
        value, mean = gradient(w, rows)
        seconds = time.perf_counter() - start
        sizes = norms(w, rows)  # a Dask array: nothing has run yet
        largest = sizes.max().compute()  # and its values need not come here

        path = Path(folder) / "rows.npy"  # the same rows in a file, in as many parts
        np.save(path, rows.compute())
        stored = np.load(path, mmap_mode="r")
        parts = mg.distribute(mg.value_and_grad(mg.mean_loss(loss, in_axes=(None, 0))), client, ROWS // CHUNK)
        again, same = parts(w, stored)
        assert again == value
        assert same.tobytes() == mean.tobytes()

        x, y = np.split(np.asarray(stored, np.float64), [-1], axis=1)
    error = x @ w - y[:, 0]
    np.testing.assert_allclose(mean, 2 * error @ x / ROWS, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(largest, (2 * np.abs(error) * np.linalg.norm(x, axis=1)).max(), rtol=1e-3)
    print(f"{ROWS:,} rows on 2 workers: mean loss {value:.4f}, largest gradient norm {largest:.1f}; "
          f"{ROWS / seconds / 1e6:.1f} million examples a second")


if __name__ == "__main__":
    main()
