"""Train on the ranks of MPI: each loads its share of each batch, and the weights are those of one process, bit for bit.

    mpirun -n 2 python examples/mpi.py

Each step adds up the ranks' sums, and divides once; so shares of a batch may differ in size, and be empty.
"""

from concurrent.futures import ThreadPoolExecutor

import minigrad as mg
from minigrad.report import digits

EPOCHS, RATE = 3, 0.2


def train(step, params, loader):
    for _ in range(EPOCHS):
        for images, labels in loader:
            value, gradient = step(params, images, labels)
            params = {k: v - RATE * gradient[k] for k, v in params.items()}
    return value, params


def main():
    try:
        from mpi4py import MPI
    except ImportError:
        print("skipped: needs mpi4py and an MPI (pip install minigrad[mpi])")
        return
    comm = MPI.COMM_WORLD
    rank, size = comm.Get_rank(), comm.Get_size()
    data, params = digits.load().train, digits.init()
    shuffled = {"batch_size": 102, "shuffle": True, "seed": 0}  # the last batch of an epoch has 10 images
    gradient = mg.value_and_grad(mg.mean_loss(digits.loss, in_axes=(None, 0, 0)))
    own = mg.DataLoader(data, shard=(rank, size), **shuffled)
    value, trained = train(mg.all_reduce(gradient, comm), params, own)
    if rank == 0:
        with ThreadPoolExecutor(1) as executor:  # one process, with as many parts
            one = mg.distribute(gradient, executor, parts=size)
            _, alone = train(one, params, mg.DataLoader(data, **shuffled))
        assert all(alone[k].tobytes() == trained[k].tobytes() for k in params)
        print(f"{size} ranks, {EPOCHS} epochs, loss {value:.4f}: bit for bit the weights of one process")


if __name__ == "__main__":
    main()
