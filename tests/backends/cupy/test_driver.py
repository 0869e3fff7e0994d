"""What is said where something is missing, and what the driver and cuBLAS are asked for."""

import ctypes
import importlib.util
import sys
import threading
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends.cupy import blas as products
from minigrad.backends.cupy import driver
from minigrad.backends.cupy.device import pack
from minigrad.errors import MinigradError
from minigrad.primitive import on_host

from . import cupy_on_numpy


class Library:
    """A stand-in for libcuda that finds `count` devices."""

    def __init__(self, count):
        self.count = count

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.count
        return 0


def have(monkeypatch, cupy=True, cuda=None, libraries=(), available=False):
    class Runtime:
        driverGetVersion = staticmethod(lambda: 11000)
        runtimeGetVersion = staticmethod(lambda: 13000)

    class Cuda:
        is_available = staticmethod(lambda: available)
        runtime = Runtime

    monkeypatch.setitem(sys.modules, "cupy", type("cupy", (), {"cuda": Cuda}) if cupy else None)
    monkeypatch.setattr(driver, "_libcuda", lambda: cuda)
    monkeypatch.setattr(driver, "find", lambda name: name if name in libraries else None)


def test_missing_parts_are_named(monkeypatch):
    both = ("nvrtc", "cublas")
    for world, words in (
            ({"cupy": False}, "pip install 'minigrad[cuda]'"),
            ({}, "no NVIDIA driver found"),
            ({"cuda": Library(0)}, "no GPU is found"),
            ({"cuda": Library(1)}, "too old"),
            ({"cuda": Library(1), "available": True}, "pip install nvidia-cuda-nvrtc"),
            ({"cuda": Library(1), "available": True, "libraries": ("nvrtc",)}, "pip install nvidia-cublas")):
        have(monkeypatch, **world)
        assert words in driver.missing()
        assert "\n" not in driver.missing()
        with pytest.raises(MinigradError, match="backend 'cupy': "):
            mg.compile(np.sin, backend="cupy")
    have(monkeypatch, cuda=Library(1), available=True, libraries=both)
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    assert "array-api-compat is not installed" in driver.missing()


def test_import_needs_no_gpu():
    assert "minigrad.backends.cupy.driver" in sys.modules
    if importlib.util.find_spec("cupy") is None:
        assert "CuPy is not installed" in driver.missing()


def test_precision_is_one_of_two():
    with pytest.raises(MinigradError, match="backend 'numpy' has no option precision"):
        mg.compile(np.sin, backend="numpy", precision="tf32")
    with pytest.raises(MinigradError, match="has no option speed"):
        mg.compile(np.sin, backend="cupy", speed="high")


class Recorder:
    """A library whose functions note their arguments and succeed, or return the status asked for."""

    def __init__(self):
        self.calls, self.status = [], {}

    def __getattr__(self, name):
        def function(*args):
            self.calls.append((name, args))
            if name == "cuGetErrorString":
                args[1]._obj.value = b"no such thing"
            return self.status.get(name, 0)

        return function

    def names(self):
        return [name for name, _ in self.calls]


@pytest.fixture
def cuda(monkeypatch):
    """Return `Cuda` on libraries that only note what is called."""
    cupy_on_numpy.install(monkeypatch)
    cuda_library, blas = Recorder(), Recorder()
    monkeypatch.setattr(driver, "check", lambda: None)
    monkeypatch.setattr(driver, "_libcuda", lambda: cuda_library)
    monkeypatch.setattr(driver, "find", lambda name: blas)
    monkeypatch.setattr(driver.nvrtc, "compile", lambda text, arch: types.SimpleNamespace(cubin=text.encode()))
    made = driver.Cuda()
    made.called = blas
    return made


def multiply(cuda, dtype, precision, sizes, x, y, out, room):
    """Call a product by cublasGemmEx; operands are address, whether it is transposed, leading size and distance."""
    (x, *x_rest), (y, *y_rest) = x, y
    spec = products.Spec(np.dtype(dtype), precision, sizes, tuple(x_rest), tuple(y_rest))
    products.Product(cuda, spec, lt=False)(out, room, x, y)


def test_kernels_are_loaded_once_and_launched_on_the_current_stream(cuda):
    f = cuda.function("text", "k1")
    cuda.function("text", "k2")
    assert cuda.library.names().count("cuModuleLoadData") == 1
    params = pack([ctypes.c_int(5), ctypes.c_uint64(1 << 40)])
    cuda.launch(f, 12, 256, params)
    name, args = cuda.library.calls[-1]
    assert name == "cuLaunchKernel"
    assert args[1:8] == (12, 1, 1, 256, 1, 1, 0)
    assert (args[8].value, args[10]) == (None, None)
    assert ctypes.c_int.from_address(args[9][0]).value == 5
    assert ctypes.c_uint64.from_address(args[9][1]).value == 1 << 40


def test_a_capture_goes_to_a_stream_of_its_own_and_ends_after_an_error(cuda):
    f = cuda.function("text", "k1")
    graph = cuda.capture((), lambda: cuda.launch(f, 1, 256, pack([])))
    names = cuda.library.names()
    assert names[-5:] == ["cuStreamBeginCapture_v2", "cuLaunchKernel", "cuStreamEndCapture",
                          "cuGraphInstantiateWithFlags", "cuGraphDestroy"]
    assert cuda.library.calls[-4][1][8].value == cuda._capture_stream.ptr
    graph.launch()
    assert cuda.library.calls[-1][0] == "cuGraphLaunch"
    assert cuda.stream() == 0
    cuda.library.status["cuLaunchKernel"] = 700
    with pytest.raises(MinigradError, match=r"cuLaunchKernel: no such thing \(700\)"):
        cuda.capture((), lambda: cuda.launch(f, 1, 256, pack([])))
    assert cuda.library.names()[-1] == "cuStreamEndCapture"
    assert cuda.stream() == 0


def test_a_fork_of_a_capture_has_a_stream_for_each_call(cuda, monkeypatch):
    def noted(name):
        whole = getattr(cupy_on_numpy.Event if name == "record" else cupy_on_numpy.Stream, name)

        def function(self, other=None):
            event, stream = (self, other) if name == "record" else (other, self)
            cuda.library.calls.append((name, (event, stream.ptr)))
            return whole(self, other)

        return function

    monkeypatch.setattr(cupy_on_numpy.Event, "record", noted("record"))
    monkeypatch.setattr(cupy_on_numpy.Stream, "wait_event", noted("wait_event"))
    functions = [cuda.function("text", f"k{k}") for k in range(4)]
    calls = [lambda f=f: cuda.launch(f, 1, 256, pack([])) for f in functions]
    cuda.fork(calls[:2])
    assert [args[8].value for _, args in cuda.library.calls[-2:]] == [None, None]
    before = len(cuda.library.calls)
    _graph = cuda.capture((), lambda: [cuda.fork(calls[:3]), calls[3]()])
    own = cuda.library.calls[before + 1:-3]
    assert [name for name, _ in own] == [
        "record", *["wait_event", "cuLaunchKernel", "record"] * 2, "cuLaunchKernel", *["wait_event"] * 2,
        "cuLaunchKernel"]
    main = cuda._capture_stream.ptr
    streams = [args[8].value if name == "cuLaunchKernel" else args[1] for name, args in own]
    first, second = streams[1], streams[4]
    assert len({main, first, second}) == 3
    assert streams == [main, *[first] * 3, *[second] * 3, *[main] * 4]
    events = [args[0] for name, args in own if name != "cuLaunchKernel"]
    forked, _, joined, _, other, *waited = events
    assert events[1] is events[3] is forked
    assert waited == [joined, other]
    assert cuda.stream() == 0


def test_a_graphs_first_nodes_take_their_arguments_anew(cuda):
    """The driver copies arguments when it is told of them: each launch of the graph tells it again."""
    nodes = iter((0x101, 0x102))

    def found(name):
        def function(*args):
            cuda.library.calls.append((name, args))
            args[1]._obj.value = next(nodes)
            return 0

        return function

    cuda.library.cuGraphGetRootNodes = found("cuGraphGetRootNodes")
    cuda.library.cuGraphNodeGetDependentNodes = found("cuGraphNodeGetDependentNodes")
    f, values = ctypes.c_void_p(0x77), [ctypes.c_int(5)]
    first = [(f, 1, 32, pack(values)), (f, 2, 64, pack(values))]
    graph = cuda.capture(first, lambda: cuda.launch(f, 1, 256, pack([])))
    assert cuda.library.names()[-8:] == [
        "cuStreamBeginCapture_v2", *["cuLaunchKernel"] * 3, "cuStreamEndCapture", "cuGraphGetRootNodes",
        "cuGraphNodeGetDependentNodes", "cuGraphInstantiateWithFlags", "cuGraphDestroy"][-8:]
    (_, dependent), = [c for c in cuda.library.calls if c[0] == "cuGraphNodeGetDependentNodes"]
    assert dependent[0].value == 0x101
    values[0].value = 6
    graph.launch()
    names = cuda.library.names()[-3:]
    assert names == ["cuGraphExecKernelNodeSetParams_v2"] * 2 + ["cuGraphLaunch"]
    for (_, args), node, blocks, threads in zip(
            cuda.library.calls[-3:-1], (0x101, 0x102), (1, 2), (32, 64), strict=True):
        params = args[2]._obj
        assert args[1].value == node
        assert [getattr(params, name) for name, _ in params._fields_[:-4]] == [0x77, blocks, 1, 1, threads, 1, 1, 0]
        assert (params.extra, params.kern, params.ctx) == (None, None, None)
        argument = ctypes.c_void_p.from_address(params.kernelParams).value
        assert ctypes.c_int.from_address(argument).value == 6
    assert ctypes.sizeof(driver.NodeParams) == 72


@pytest.mark.parametrize(("dtype", "precision", "kind", "compute"), [
    ("f4", "highest", 0, 68), ("f4", "tf32", 0, 77), ("f8", "tf32", 1, 70), ("f2", "highest", 2, 68)])
def test_batched_product_passes_transposed_operands_to_cublas(cuda, dtype, precision, kind, compute):
    multiply(cuda, dtype, precision, (2, 3, 4, 5), (100, False, 5, 15), (200, True, 6, 20), 300, 400)
    assert cuda.called.names()[-3:] == ["cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmStridedBatchedEx"]
    _, workspace = cuda.called.calls[-2]
    assert (workspace[1].value, workspace[2].value) == (400, products.ROOM)
    _, args = cuda.called.calls[-1]
    plain = [a.value if hasattr(a, "value") else a for a in args[1:]]
    plain[5] = plain[14] = None  # the addresses of 1 and 0
    assert plain == [1, 0, 4, 3, 5, None, 200, kind, 6, 20, 100, kind, 5, 15, None, 300, kind, 4, 12, 2, compute, -1]


def test_single_product_calls_unbatched_gemm(cuda):
    multiply(cuda, "f4", "tf32", (1, 3, 4, 5), (100, True, 6, 15), (200, False, 7, 20), 300, 400)
    name, args = cuda.called.calls[-1]
    plain = [a.value if hasattr(a, "value") else a for a in args[1:]]
    plain[5] = plain[12] = None  # the addresses of 1 and 0
    assert (name, plain) == ("cublasGemmEx", [0, 1, 4, 3, 5, None, 200, 0, 7, 100, 0, 6, None, 300, 0, 4, 77, -1])


def test_products_over_nothing_are_zeros(cuda):
    nothing = 200, False, 4, 0
    multiply(cuda, "f4", "highest", (2, 3, 4, 0), (100, False, 0, 0), nothing, 300, 400)
    name, args = cuda.library.calls[-1]
    assert (name, [a.value for a in args]) == ("cuMemsetD8Async", [300, 0, 2 * 3 * 4 * 4, None])
    cuda.library.calls.clear()
    for sizes in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 0, 0)):
        multiply(cuda, "f4", "highest", sizes, (100, False, 5, 15), nothing, 300, 400)
    assert cuda.library.calls == []
    assert not any(name.startswith("cublasGemm") for name in cuda.called.names())


def test_a_second_device_is_refused(cuda):
    x = cupy_on_numpy.asarray(np.ones(3))
    with cupy_on_numpy.Device(1):
        with pytest.raises(MinigradError, match=r"compiled for GPU 0, and GPU 1 is current.*cupy\.cuda\.Device\(0\)"):
            cuda.ready()
        y = cupy_on_numpy.asarray(np.ones(3))
    cuda.ready()
    assert cuda.asarray(x, x.dtype) is x
    with pytest.raises(MinigradError, match=r"an argument of shape \(3,\) is on GPU 1"):
        cuda.asarray(y, y.dtype)


def test_each_thread_has_its_own_queue_where_it_has_its_own_default_stream(cuda, monkeypatch):
    def queues():
        found = [cuda.queue(), cuda.queue()]
        thread = threading.Thread(target=lambda: found.append(cuda.queue()))
        thread.start()
        thread.join()
        return found

    first, again, other = queues()
    assert first == again == other
    monkeypatch.setattr(cupy_on_numpy.Stream, "null", cupy_on_numpy.Stream(ptr=2))
    first, again, other = queues()
    assert first == again != other


def test_a_constant_is_complete_before_other_streams_read_it(on_stand_in, monkeypatch):
    waits = []
    monkeypatch.setattr(cupy_on_numpy.Stream, "synchronize", lambda self: waits.append(self))
    f = mg.compile(lambda x: np.sum(np.sin(x) * np.array([1.0, 2.0])), backend="cupy")
    for _ in range(3):
        np.testing.assert_allclose(on_host(f(np.ones(2))), 3 * np.sin(1))
    assert len(waits) == 1
