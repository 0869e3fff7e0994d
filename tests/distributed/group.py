"""Ranks in threads, which stand for those of MPI."""

import threading

import numpy as np


class Group:
    """Ranks in threads, which exchange objects at a barrier."""

    def __init__(self, size, kind=None):
        self.kind = kind or Rank
        self.size, self.slots, self.barrier = size, [None] * size, threading.Barrier(size, timeout=120)

    def run(self, work):
        """Return what `work` returns, or raises, on each rank."""
        out = [None] * self.size

        def on(rank):
            try:
                out[rank] = work(self.kind(self, rank))
            except Exception as error:
                out[rank] = error

        ranks = [threading.Thread(target=on, args=(k,)) for k in range(self.size)]
        for t in ranks:
            t.start()
        for t in ranks:
            t.join()
        return out


class Rank:
    """The communicator of one rank, which sends objects."""

    def __init__(self, group, rank):
        self._group, self._rank = group, rank

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return self._group.size

    def allgather(self, x):
        self._group.slots[self._rank] = x
        self._group.barrier.wait()
        out = list(self._group.slots)
        self._group.barrier.wait()
        return out


class BufferRank(Rank):
    """A communicator that sends arrays, too, and counts the bytes that a rank gets from others."""

    received = objects = 0

    def allgather(self, x):
        self.objects += 1
        return super().allgather(x)

    def _rows(self, x):
        assert isinstance(x, np.ndarray)
        assert x.flags.c_contiguous
        return super().allgather(x.copy())

    def Allgather(self, x, out):
        assert out.flags.c_contiguous
        out[...] = np.stack(self._rows(x))
        self.received += out.nbytes - x.nbytes

    def Alltoall(self, x, out):
        out[...] = np.stack([rows[self.Get_rank()] for rows in self._rows(x)])
        self.received += out.nbytes * (self.Get_size() - 1) // self.Get_size()


class Done:
    """A message that has arrived."""

    def Test(self):
        return True

    def Wait(self):
        return True


class NonblockingRank(BufferRank):
    """A communicator whose messages may be under way; it notes the bytes of each."""

    def __init__(self, group, rank):
        super().__init__(group, rank)
        self.begun = []

    def Ialltoall(self, x, out):
        self.begun.append(x.nbytes)
        self.Alltoall(x, out)
        return Done()
