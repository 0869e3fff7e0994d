"""The thread pool, as machine code: no lock of Python's is held while it works.

``void mg_parallel(void (*block)(void *context, i64 item, i64 thread), void *context, i64 items)`` calls `block` for
each item from 0 to items - 1, on the caller's thread and on the pool's, and returns when all are done. `thread` is
less than the number of threads, and no two blocks of one call that run at the same time have the same one: it says
whose scratch memory to use. A call made while the pool is busy, by a block or by another thread, does all its items
itself, as thread 0.

``mg_parallel_upto(block, context, items, threads)`` does the same on at most `threads` threads: for scratch memory that was
made for so many.
"""


def get_num_threads() -> int:
    """Return how many threads a parallel stretch of a native program may use, the caller's included."""
    raise NotImplementedError


def set_num_threads(n: int) -> None:
    """Set how many threads a parallel stretch of a native program may use, the caller's included.

    Results do not depend on it. The default is ``MINIGRAD_NUM_THREADS`` if that is set, otherwise the number of CPUs
    that this process may use.
    """
    raise NotImplementedError


def symbols() -> dict[str, int]:
    """Return the addresses of ``mg_parallel`` and ``mg_parallel_upto``, for `target.load`."""
    raise NotImplementedError
