"""Train on the ranks of MPI: each has rows of its own, and the weights are those of one process, bit for bit.

    mpirun -n 2 python examples/mpi.py

Each step adds up the ranks' sums, and divides once; so ranks may have any numbers of images.
"""

from concurrent.futures import ThreadPoolExecutor

import minigrad as mg
from minigrad.report import digits

STEPS, RATE = 30, 0.5


def train(step, params, *examples):
    for _ in range(STEPS):
        value, gradient = step(params, *examples)
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
    (images, labels), params = digits.load().train, digits.init()
    own = slice(len(images) * rank // size, len(images) * (rank + 1) // size)
    gradient = mg.value_and_grad(mg.mean_loss(digits.loss, in_axes=(None, 0, 0)))
    value, trained = train(mg.all_reduce(gradient, comm), params, images[own], labels[own])
    if rank == 0:
        with ThreadPoolExecutor(1) as executor:  # one process, with as many parts
            _, alone = train(mg.distribute(gradient, executor, parts=size), params, images, labels)
        assert all(alone[k].tobytes() == trained[k].tobytes() for k in params)
        print(f"{size} ranks, {STEPS} steps, loss {value:.4f}: bit for bit the weights of one process")


if __name__ == "__main__":
    main()
