"""CuPy on NumPy's memory: arrays and functions that refuse what CuPy and `array_api_compat.cupy` refuse.

Operands must be arrays of the device, `numpy.asarray` does not convert them, and the standard's functions take a dtype
by its name only. Fresh memory holds large numbers, results are never NumPy's scalars, and eigen- and singular
vectors have other signs than LAPACK's, as cuSOLVER's may.
"""

from __future__ import annotations

import ctypes
import functools
import math
import operator
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import scipy.special

# What fresh memory holds: a number that no tolerance hides, as 0xA5 (-1e-130) would be, and no valid index.
POISON = 0x7B
_ALIGNED = 512  # bytes, of fresh memory
# NumPy's functions that CuPy 14 lacks.
LACKING = frozenset({
    "asmatrix", "block", "bmat", "busday_count", "busday_offset", "busdaycalendar", "bytes_", "character",
    "clongdouble", "complex256", "datetime64", "datetime_as_string", "datetime_data", "einsum_path", "errstate",
    "flexible", "float128", "frompyfunc", "fromregex", "geomspace", "get_include", "getbufsize", "geterr",
    "geterrcall", "histogram_bin_edges", "info", "insert", "is_busday", "isnat", "longdouble", "matrix", "matvec",
    "memmap", "nanpercentile", "nanquantile", "ndenumerate", "nditer", "nested_iters", "object_", "polyder",
    "polydiv", "polyint", "recarray", "record", "setbufsize", "seterr", "seterrcall", "show_runtime", "spacing",
    "str_", "test", "timedelta64", "vecmat", "void"})
# SciPy's special functions that CuPy 14 lacks.
LACKING_SPECIAL = frozenset({"dawsn", "hyp0f1", "hyp1f1", "spence"})
# The standard's functions that make arrays, and how many positional arguments they take.
POSITIONAL = {"arange": 3, "asarray": 1, "empty": 1, "zeros": 1, "ones": 1, "full": 2, "eye": 2, "linspace": 3,
              "empty_like": 1, "zeros_like": 1, "ones_like": 1, "full_like": 2}
_HOST = {"asarray", "array", "isdtype", "result_type", "can_cast", "finfo", "iinfo", "dtype", "broadcast_shapes",
         "issubdtype", "promote_types"}  # the functions that take NumPy's arrays, or no array


class OutOfMemoryError(Exception):
    """CuPy's error of its memory."""


class Pointer:
    """An address within a buffer."""

    __slots__ = ("buffer", "device_id", "offset", "ptr")

    def __init__(self, buffer: np.ndarray, offset: int = 0, ptr: int | None = None):
        self.buffer, self.offset, self.device_id = buffer, offset, _now.device
        self.ptr = buffer.ctypes.data if ptr is None else ptr

    def __add__(self, offset: int) -> Pointer:
        return Pointer(self.buffer, self.offset + offset, self.ptr + offset)


class ndarray:
    """An array of the device; its shape, dtype and memory cost as little to read as CuPy's do."""

    __slots__ = ("_data", "_own", "device", "dtype", "shape")

    def __init__(self, shape: Any, dtype: Any = float, memptr: Pointer | None = None):
        buffer, offset = (None, 0) if memptr is None else (memptr.buffer, memptr.offset)
        self._own = np.ndarray(shape, dtype, buffer, offset)
        self._data, self.device, self.dtype, self.shape = memptr, Device(_now.device), self._own.dtype, self._own.shape

    @classmethod
    def of(cls, own: Any) -> ndarray:
        out = cls.__new__(cls)
        out._own, out._data, out.device = np.asarray(own), None, Device(_now.device)
        out.dtype, out.shape = out._own.dtype, out._own.shape
        return out

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
                        "array explicitly.")

    def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **kwargs: Any) -> Any:
        return lifted(getattr(ufunc, method))(*xs, **kwargs)

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        return lifted(function)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._own, name)
        return lifted(found) if callable(found) else wrap(found)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self._own.ctypes.data, False), "version": 3,
                "stream": 1}

    def __dlpack__(self, **kwargs: Any) -> np.ndarray:
        return self._own

    @property
    def data(self) -> Pointer:
        if self._data is None:
            self._data = Pointer(self._own)
        return self._data

    @property
    def flags(self) -> Any:
        return self._own.flags

    @property
    def base(self) -> Any:
        return self._own.base

    def get(self) -> np.ndarray:
        return self._own.copy()

    def fill(self, value: Any) -> None:
        self._own.fill(unwrap(value))

    def tolist(self) -> Any:
        return self._own.tolist()

    def item(self, *args: int) -> Any:
        return self._own.item(*args)

    def __getitem__(self, index: Any) -> ndarray:
        return wrap(self._own[unwrap(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._own[unwrap(index)] = unwrap(value)

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"on_device({self._own!r})"

    __hash__ = None


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: ndarray, *others: Any) -> Any:
        if any(type(x).__module__ not in ("builtins", "numpy", __name__) for x in others):
            return NotImplemented  # a traced array's own operator takes over
        with np.errstate(all="ignore"):
            return wrap(getattr(self._own, name)(*unwrap(others)))

    return apply


def _in_place(name: str) -> Callable[..., Any]:
    def apply(self: ndarray, other: Any) -> ndarray:
        with np.errstate(all="ignore"):
            getattr(operator, name)(self._own, unwrap(other))
        return self

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift",
              "rshift"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(ndarray, f"__i{_name}__", _in_place(f"i{_name}"))
for _name in ("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("int", "float", "bool", "index"):
    setattr(ndarray, f"__{_name}__", lambda self, _name=_name: getattr(self._own, f"__{_name}__")())


# -- functions ---------------------------------------------------------------------------------------------


def unwrap(x: Any) -> Any:
    """Return arguments as NumPy's, where CuPy takes them."""
    if isinstance(x, ndarray):
        return x._own
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(unwrap, x))
    return x


def wrap(x: Any) -> Any:
    """Return results as arrays of the device: numbers too."""
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray.of(x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(wrap, x))
    return type(x)(map(wrap, x)) if type(x) in (list, tuple) else x


def lifted(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy for arrays of the device."""
    @functools.wraps(f, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):  # a device does not warn
            return wrap(f(*unwrap(args), **{k: unwrap(v) for k, v in kwargs.items()}))

    return call


def needs_arrays(f: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function of NumPy whose first argument CuPy does not convert."""
    @functools.wraps(f, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        for x in args[0] if args and isinstance(args[0], (list, tuple)) else args[:1]:
            if isinstance(x, (bool, int, float, np.generic)):
                raise AttributeError(f"{name}: {type(x).__name__!r} object has no attribute 'astype'")
        return lifted(f)(*args, **kwargs)

    return call


class Namespace(types.ModuleType):
    """A module of NumPy's or SciPy's functions, on arrays of the device."""

    def __init__(self, name: str, source: Any, lacking: frozenset[str] = frozenset(), **own: Any):
        super().__init__(name)
        self._source, self._lacking = source, lacking
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        found = None if name.startswith("_") or name in self._lacking else getattr(self._source, name, None)
        if found is None and name != "newaxis":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if isinstance(found, type) or not callable(found):
            return found
        plain = isinstance(found, np.ufunc) or name in _HOST or name in POSITIONAL
        found = lifted(found) if plain else needs_arrays(found, name)
        self.__dict__[name] = found
        return found


class _Now(threading.local):
    """The calling thread's device and stream."""

    device = 0
    stream: Any = None


_now = _Now()


class Device:
    """A device, of which the stand-in has two."""

    compute_capability = "90"

    def __init__(self, number: int | None = None):
        self.id = _now.device if number is None else number

    def use(self) -> None:
        _now.device = self.id

    def synchronize(self) -> None:
        """Do nothing: all work is done."""

    def __enter__(self) -> Device:
        self._before, _now.device = _now.device, self.id
        return self

    def __exit__(self, *error: object) -> None:
        _now.device = self._before


class Stream:
    """A stream: its handle, and in a capture the nodes that its next node waits for."""

    def __init__(self, non_blocking: bool = False, ptr: int | None = None):
        self.ptr = id(self) if ptr is None else ptr
        self.capture: Any = None
        self.last: frozenset[int] = frozenset()
        STREAMS[self.ptr] = self

    def synchronize(self) -> None:
        """Do nothing: all work is done."""

    def wait_event(self, event: Event) -> None:
        """Wait for an event; one that was recorded in a capture takes the stream into it."""
        if event.capture is not None:
            assert self.capture in (None, event.capture), "the event belongs to another capture"
            self.capture, self.last = event.capture, self.last | event.last
            self.capture.streams.add(self)

    def __enter__(self) -> Stream:
        self._before, _now.stream = _now.stream, self
        return self

    def __exit__(self, *error: object) -> None:
        _now.stream = self._before


STREAMS: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
Stream.null = Stream(ptr=0)


class Event:
    """A time on the host's clock, and in a capture the nodes before it."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.capture: Any = None
        self.last: frozenset[int] = frozenset()

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or get_current_stream()
        self.at, self.capture, self.last = time.perf_counter(), stream.capture, stream.last

    def synchronize(self) -> None:
        """Do nothing: all work is done."""
        assert self.capture is None, "an event of a capture cannot be waited for"


class Random:
    """Random numbers of one sort."""

    def __init__(self, seed: int = 0):
        self._source = np.random.default_rng(seed)

    def standard_normal(self, size: Any, dtype: Any = float) -> ndarray:
        return ndarray.of(self._source.standard_normal(size, dtype))

    def random(self, size: Any, dtype: Any = float) -> ndarray:
        return ndarray.of(self._source.random(size, dtype))


class Pool:
    """The memory of arrays.

    Attributes
    ----------
    limit : int
        The most bytes that one array may have.
    released : int
        How often memory was given back.
    poison : int
        What each byte of fresh memory holds.
    """

    limit = 1 << 32
    released = 0
    poison = POISON
    _live: ClassVar[dict[int, weakref.ref]] = {}

    def alloc(self, nbytes: int) -> Pointer:
        if nbytes > self.limit:
            raise OutOfMemoryError(f"no {nbytes} bytes left")
        buffer = np.full(nbytes + _ALIGNED, self.poison, np.uint8)
        start = -buffer.ctypes.data % _ALIGNED
        key = id(buffer)
        self._live[key] = weakref.ref(buffer, lambda _: self._live.pop(key, None))
        return Pointer(buffer[start:start + nbytes])

    def used(self) -> int:
        """Return how many bytes are in use."""
        return sum(found.nbytes for found in self.buffers())

    def buffers(self) -> list[np.ndarray]:
        """Return all memory that is in use."""
        return [found for ref in list(self._live.values()) if (found := ref()) is not None]

    def empty(self, shape: Any, dtype: Any = float) -> ndarray:
        nbytes = math.prod(shape if isinstance(shape, (tuple, list)) else (shape,)) * np.dtype(dtype).itemsize
        return ndarray(shape, dtype, self.alloc(nbytes))

    def free_all_blocks(self) -> None:
        self.released += 1

    def used_bytes(self) -> int:
        return 0


POOL = Pool()


def asarray(x: Any, dtype: Any = None, **kwargs: Any) -> ndarray:
    """Return an array of the device. An array of another library is read without waiting for its computation."""
    if isinstance(x, (list, tuple)):
        x = [v._own if isinstance(v, ndarray) else v for v in x]
    elif isinstance(x, ndarray):
        return x if dtype in (None, x.dtype) else x.astype(dtype)
    elif hasattr(x, "__cuda_array_interface__"):
        interface = x.__cuda_array_interface__
        if interface["version"] < 3:
            return POOL.empty(interface["shape"], dtype or interface["typestr"])
        x = np.asarray(x.__dlpack__())
    out = np.array(x, dtype)
    return ndarray.of(out)


def from_dlpack(x: Any, **kwargs: Any) -> ndarray:
    """Return an array of another library once it is computed."""
    return ndarray.of(x.__dlpack__(stream=get_current_stream().ptr))


def get_current_stream() -> Stream:
    return _now.stream or Stream.null


def alloc_pinned_memory(nbytes: int) -> Any:
    out = (ctypes.c_char * nbytes)()
    out.ptr = ctypes.addressof(out)
    return out


def polygamma(n: Any, x: Any) -> ndarray:
    """Return what CuPy's own text does: it fails where `n` is a Python number."""
    if not isinstance(n, ndarray):
        raise AttributeError(f"{type(n).__name__!r} object has no attribute 'astype'")
    return lifted(scipy.special.polygamma)(n, x)


def _eigh(a: ndarray, *args: Any, **kwargs: Any) -> Any:
    values, vectors = lifted(np.linalg.eigh)(a, *args, **kwargs)
    return values, -vectors


def _svd(a: ndarray, *args: Any, **kwargs: Any) -> Any:
    u, s, vh = lifted(np.linalg.svd)(a, *args, **kwargs)
    return -u, s, -vh


def _named_dtypes(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the standard: what follows its positional arguments has a name."""
    @functools.wraps(f, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) > POSITIONAL[name]:
            raise TypeError(f"{name}() got multiple values for argument 'xp'")
        return f(*args, **kwargs)

    return call


def _stable(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: ndarray, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> ndarray:
        assert not descending
        return lifted(f)(x, axis=axis, stable=stable)

    return call


# -- modules -----------------------------------------------------------------------------------------------

RUNTIME = types.SimpleNamespace(getDevice=lambda: _now.device, free=lambda pointer: None,
                                driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000,
                                getDeviceProperties=lambda number: {"name": b"a stand-in"})
CUDA = types.SimpleNamespace(
    Device=Device, Stream=Stream, Event=Event, get_elapsed_time=lambda begin, end: 1e3 * (end.at - begin.at),
    get_current_stream=get_current_stream, runtime=RUNTIME, alloc=POOL.alloc, is_available=lambda: True,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError), alloc_pinned_memory=alloc_pinned_memory)
LINALG = Namespace("cupy.linalg", np.linalg, eigh=_eigh, svd=_svd)
FFT = Namespace("cupy.fft", np.fft)
CUPY = Namespace("cupy", np, LACKING, __version__="14", ndarray=ndarray, asarray=asarray, array=asarray,
                 from_dlpack=from_dlpack, empty=POOL.empty, get_default_memory_pool=lambda: POOL, cuda=CUDA,
                 linalg=LINALG, fft=FFT, random=types.SimpleNamespace(default_rng=Random, random=Random().random))
SPECIAL = Namespace("cupyx.scipy.special", scipy.special, LACKING_SPECIAL, polygamma=polygamma)
COMPAT = Namespace("array_api_compat.cupy", np, LACKING, linalg=LINALG, fft=FFT, argsort=_stable(np.argsort),
                   sort=_stable(np.sort), **{n: _named_dtypes(n, getattr(CUPY, n)) for n in POSITIONAL})


def install(monkeypatch: Any) -> None:
    """Make `import cupy`, and that of what stands on it, mean this module."""
    scipy_ = types.SimpleNamespace(special=SPECIAL)
    for name, module in (("cupy", CUPY), ("cupyx", types.SimpleNamespace(scipy=scipy_)), ("cupyx.scipy", scipy_),
                         ("cupyx.scipy.special", SPECIAL),
                         ("array_api_compat", types.SimpleNamespace(cupy=COMPAT)), ("array_api_compat.cupy", COMPAT)):
        monkeypatch.setitem(sys.modules, name, module)
