"""Data parallel training in PyTorch: which weight does each example have, on two processes?

`DistributedDataParallel` averages the gradients of the processes, whatever the number of examples that each has. Two
processes on this machine run each step below on their shards, with gloo; `mg.audit` sees the averaged gradient.
"""

import datetime
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import minigrad as mg

LIMIT = 120  # seconds for any exchange between the processes


def network():
    return nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double()


def loss(p, x, label):
    """Return the loss of one digit, in NumPy."""
    z = p["2.weight"] @ np.tanh(p["0.weight"] @ x + p["0.bias"]) + p["2.bias"]
    return np.log(np.sum(np.exp(z - z.max()))) + z.max() - z[label]


# -- In each process ---------------------------------------------------------------------------------------


def join(rank, store):
    """Connect a process to the other, through a file and the loopback interface."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=Path(store).as_uri(), rank=rank, world_size=2,
                                   timeout=datetime.timedelta(seconds=LIMIT))


def gradient(backward, params, x, y):
    """Return the gradient that a process has after its backward passes."""
    model = network()
    model.load_state_dict(params)
    parallel = DistributedDataParallel(model)
    backward(parallel, x, y)
    return {k: p.grad for k, p in model.named_parameters()}


def shard(x, y):
    """Return every second example."""
    rank = distributed.get_rank()
    return x[rank::2], y[rank::2]


# -- The steps ---------------------------------------------------------------------------------------------


def right(model, x, y):
    xs, ys = shard(x, y)
    share = distributed.get_world_size() / len(x)  # the processes' gradients are averaged: their number takes that back
    (F.cross_entropy(model(xs), ys, reduction="sum") * share).backward()


def uneven_shards(model, x, y):
    xs, ys = shard(x, y)  # 12 and 11 digits
    F.cross_entropy(model(xs), ys).backward()


def repeated_by_the_sampler(model, x, y):
    data = TensorDataset(x, y)
    loader = DataLoader(data, batch_size=len(data), sampler=DistributedSampler(data, shuffle=False))
    for xs, ys in loader:  # the sampler fills the shorter shard with the first digit
        F.cross_entropy(model(xs), ys).backward()


def dropped_by_the_sampler(model, x, y):
    data = TensorDataset(x, y)
    loader = DataLoader(data, batch_size=len(data), sampler=DistributedSampler(data, shuffle=False, drop_last=True))
    for xs, ys in loader:
        F.cross_entropy(model(xs), ys).backward()


def number_of_processes_forgotten(model, x, y):
    xs, ys = shard(x, y)
    (F.cross_entropy(model(xs), ys, reduction="sum") / len(x)).backward()


def exchanged_once(model, x, y):
    """Accumulate micro-batches of 4, and exchange the gradients after the last one."""
    xs, ys = shard(x, y)
    *first, last = zip(xs.split(4), ys.split(4), strict=True)
    with model.no_sync():
        for part, labels in first:
            (F.cross_entropy(model(part), labels, reduction="sum") * 2 / len(x)).backward()
    (F.cross_entropy(model(last[0]), last[1], reduction="sum") * 2 / len(x)).backward()


# -- The audits --------------------------------------------------------------------------------------------


def main():
    torch.manual_seed(0)
    digits = load_digits()
    batch = torch.tensor(digits.data[:23] / 16), torch.tensor(digits.target[:23])
    params = {k: p.detach() for k, p in network().named_parameters()}
    spawn = multiprocessing.get_context("spawn")
    with (tempfile.TemporaryDirectory() as folder,
          ProcessPoolExecutor(1, spawn, join, (0, f"{folder}/store")) as one,
          ProcessPoolExecutor(1, spawn, join, (1, f"{folder}/store")) as other):

        def audit(backward):
            def step(params, x, y):
                both = [pool.submit(gradient, backward, params, x, y) for pool in (one, other)]
                first, second = (run.result(timeout=LIMIT) for run in both)
                assert all(torch.equal(first[k], second[k]) for k in params)
                return first

            report = mg.audit(step, loss, params, batch, progress=False)
            print(f"{backward.__name__}: {report.verdict}")
            return report

        audit(right).check("mean")
        audit(exchanged_once).check("mean")
        report = audit(uneven_shards)
        assert [m.tolist() for m in report.microbatches] == [list(range(0, 23, 2)), list(range(1, 23, 2))]
        assert "example 0 counts twice" in audit(repeated_by_the_sampler).verdict
        assert "example 22 has weight 0" in audit(dropped_by_the_sampler).verdict
        assert "times 0.5: divided by 2 once too often" in audit(number_of_processes_forgotten).verdict


if __name__ == "__main__":
    main()
