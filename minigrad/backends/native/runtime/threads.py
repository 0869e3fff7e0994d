"""The thread pool, as machine code: it works without a lock of Python's.

``void mg_parallel(void (*block)(void *context, i64 item, i64 thread), void *context, i64 items, i64 threads)`` calls
`block` for each item from 0 to items - 1, on the caller's thread and on the pool's, and returns when all are done. At
most `threads` threads take part: the number that scratch memory was allocated for, also after `set_num_threads`.
`thread` is less than that, and no two blocks of one call that run at the same time have the same one: it selects the
scratch memory. A call made while the pool is busy, by a block or by another thread, does all its items itself, as
thread 0.
"""

import ctypes
import functools
import importlib.util
import operator
import os
from types import ModuleType

from ....locks import importing
from .cache import CodeRequest, generated, object_code
from .cpus import usable_cpus
from .jit import host, load, lock

LIMIT = 1024  # threads at most: more than helps anybody
_chosen: int | None = None  # by set_num_threads


def get_num_threads() -> int:
    """Return the number of threads that a native program may use, the caller's included.

    Returns
    -------
    int

    Examples
    --------
    >>> mg.get_num_threads() >= 1
    True
    """
    return _chosen or default_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that a native program may use, the caller's included.

    Results do not depend on it. The default is ``MINIGRAD_NUM_THREADS`` if that is set, otherwise the number of CPUs
    that this process may use. It applies to runs that start later.

    Parameters
    ----------
    n : int

    Returns
    -------
    None

    Examples
    --------
    >>> before = mg.get_num_threads()
    >>> mg.set_num_threads(1)
    >>> mg.get_num_threads()
    1
    >>> mg.set_num_threads(before)
    """
    global _chosen
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads takes a whole number, not {n!r}")
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"set_num_threads({n}): a program runs on 1 thread at least")
    with lock:
        _chosen = min(n, LIMIT)
        if _pool is not None:
            _pool.set_threads(_chosen)


def symbols() -> dict[str, int]:
    """Return the address of ``mg_parallel``, for `jit.load`."""
    if not loaded():
        add(object_code(code_request()))
    assert _pool is not None
    return {"mg_parallel": _pool.library.address("mg_parallel")}


def code_request() -> CodeRequest:
    """Return the request for the pool's code."""
    def make() -> tuple[str, None]:
        with importing:
            from .pool import text

        return text(host()), None

    return generated("pool", make)


def loaded() -> bool:
    return _pool is not None


def add(code: bytes) -> None:
    """Load the pool's code, unless another thread has done so."""
    global _pool
    with lock:
        if _pool is None:
            _pool = _Pool(code)


class _Pool:
    def __init__(self, code: bytes) -> None:
        self.library = load([code], keep=True)  # its threads wait inside, also at the end
        reset = ctypes.CFUNCTYPE(None)(self.library.address("mg_pool_reset"))
        self.set_threads = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.library.address("mg_pool_set_threads"))
        reset()
        self.set_threads(get_num_threads())
        os.register_at_fork(after_in_child=reset)  # a child has none of the threads, and perhaps half a job
        _tell_threadpoolctl()


_pool: _Pool | None = None


@functools.cache
def default_threads() -> int:
    """Return the number of threads without `set_num_threads`."""
    setting = os.environ.get("MINIGRAD_NUM_THREADS", "").strip()
    if not setting:
        return min(usable_cpus(), LIMIT)
    if not setting.isdecimal() or int(setting) < 1:
        raise ValueError(f"MINIGRAD_NUM_THREADS={setting}: it must be a whole number of at least 1")
    return min(int(setting), LIMIT)


def threadpoolctl() -> ModuleType | None:
    """Return the package of that name, where it is installed."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return None
    with importing:
        import threadpoolctl
    module: ModuleType = threadpoolctl
    return module


def _tell_threadpoolctl() -> None:
    """Let threadpoolctl limit the pool, where it is installed: ``threadpool_limits(2)``, ``user_api="minigrad"``.

    It knows libraries by their files. Machine code in memory has none; the file that stands for the pool is LLVM's,
    which is loaded whenever the pool is.
    """
    package = threadpoolctl()
    if package is None:
        return

    class Controller(package.LibController):  # type: ignore[misc,name-defined]  # threadpoolctl has no types
        user_api = internal_api = "minigrad"
        filename_prefixes = ("libllvmlite", "llvmlite")

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> None:
            return None

    package.register(Controller)
