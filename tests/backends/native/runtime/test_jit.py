"""Machine code from LLVM IR: for this machine, loaded and run; for others, compiled."""

import contextlib
import ctypes
import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minigrad.backends.native.runtime import jit, threads
from minigrad.backends.native.runtime import runner as runner_code
from minigrad.backends.native.runtime.cpus import usable_cpus
from minigrad.errors import Unsupported
from tests.backends.native.machine_code import TARGETS, assembly, compile_ir

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(jit.available() is not None, reason=str(jit.available()))

ROOT = Path(__file__).resolve().parents[4]

LANES = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)

define void @scale(ptr %p, i64 %n) {
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %at = getelementptr float, ptr %p, i64 %i
  %x = load <16 x float>, ptr %at, align 4
  %y = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %x, <16 x float> %x)
  store <16 x float> %y, ptr %at, align 4
  %j = add i64 %i, 16
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %end

end:
  ret void
}
"""


def function(library, name, result=ctypes.c_double, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(library.address(name))


def test_code_runs():
    library = jit.load([compile_ir(LANES)])
    x = np.arange(32, dtype=np.float32)
    function(library, "scale", None, ctypes.c_void_p, ctypes.c_int64)(x.ctypes.data, 32)
    assert x.tolist() == [k * k + k for k in range(32)]


def test_vectors_have_the_width_of_the_machine():
    text = assembly(LANES)
    features = jit.host().features.split(",")
    if "+avx512f" in features:
        assert "zmm" in text
        assert "ymm" not in text
    elif "+avx" in features:
        assert "ymm" in text
    assert ("fma" in text) == (jit.host().arch == "aarch64" or "+fma" in features) or "fmla" in text
    assert "-prefer-256-bit" in features or jit.host().arch == "aarch64"


@pytest.mark.parametrize(("name", "registers", "fma"), [
    ("x86-64", "xmm", None), ("x86-64-avx2", "ymm", "vfmadd"), ("x86-64-avx512", "zmm", "vfmadd"),
    ("aarch64", r"v\d+\.4s|q\d", "fmla|fmul"), ("macos-arm64", r"v\d+|q\d", "fmla")])
def test_other_machines(name, registers, fma):
    """Each compiles, to object code too, with the registers that it has, and tells of its fma."""
    other = TARGETS[name]
    text = assembly(LANES, other)
    assert re.search(registers, text)
    assert jit.has_fma(other) == (fma is not None)
    assert re.search(fma, text) if fma else "fmaf" in text, "without the instruction, llvm.fma calls a function"
    assert compile_ir(LANES, other).startswith(b"\xcf\xfa\xed\xfe" if "apple" in other.triple else b"\x7fELF")


def test_has_fma_follows_the_features():
    assert not jit.has_fma(jit.Target("x86_64-unknown-linux-gnu", "x86-64-v3", "+avx2,-fma"))
    assert jit.has_fma(jit.Target("x86_64-unknown-linux-gnu", "x86-64", "+avx,+fma"))
    assert not jit.has_fma(jit.Target("x86_64-unknown-linux-gnu", "x86-64", "+fma4"))


FAR = """
declare double @cos(double)
declare double @given(double)
declare ptr @memcpy(ptr, ptr, i64)
@table = internal constant [3 x double] [double 1.5, double 2.5, double 3.5]
@where = internal global ptr @cos

define double @near(i64 %i) {
  %p = getelementptr [3 x double], ptr @table, i64 0, i64 %i
  %x = load double, ptr %p
  ret double %x
}

define double @far(double %x) {
  %f = load ptr, ptr @where
  %a = call double %f(double %x)
  %b = call double @given(double %a)
  %c = fadd double %b, 0.1
  ret double %c
}
"""


def test_constants_and_functions_far_away():
    """Constants beside the code, the process's functions by name and by pointer, and the caller's own."""
    given = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 10 * x)
    library = jit.load([compile_ir(FAR)], {"given": ctypes.cast(given, ctypes.c_void_p).value})
    assert [function(library, "near", ctypes.c_double, ctypes.c_int64)(i) for i in range(3)] == [1.5, 2.5, 3.5]
    assert function(library, "far", ctypes.c_double, ctypes.c_double)(0.0) == 10.1


def test_one_object_uses_another():
    half = "define double @half(double %x) {\n %y = fmul double %x, 0.5\n ret double %y\n}"
    use = ("declare double @half(double)\n"
           "define double @quarter(double %x) {\n %y = call double @half(double %x)\n"
           " %z = call double @half(double %y)\n ret double %z\n}")
    library = jit.load(jit.compile_all([use, half]))
    assert function(library, "quarter", ctypes.c_double, ctypes.c_double)(12.0) == 3.0


def test_libraries_do_not_see_each_other():
    first, second = (jit.load([compile_ir(f"define i64 @f() {{\n ret i64 {k}\n}}")]) for k in (1, 2))
    assert [function(x, "f", ctypes.c_int64)() for x in (first, second)] == [1, 2]
    with pytest.raises(RuntimeError, match="g"):  # f is not found, which LLVM tells on stderr
        jit.load([compile_ir("declare i64 @f()\ndefine i64 @g() {\n %x = call i64 @f()\n ret i64 %x\n}")]
                    ).address("g")


def test_invalid_ir_and_undefined_symbols():
    with pytest.raises(RuntimeError, match="expected type"):
        compile_ir("define junk")
    with pytest.raises(RuntimeError, match=r"terminator|dominate"):  # well formed, but not valid
        compile_ir(
            "define i64 @f() {\nentry:\n br label %b\nb:\n ret i64 %x\nc:\n %x = add i64 1, 1\n ret i64 0\n}")
    gc.collect()  # the module is freed before its context
    code = compile_ir("define void @f() {\n ret void\n}")
    with pytest.raises(RuntimeError, match="f"):
        jit.load([code, code]).address("f")
    with pytest.raises(RuntimeError, match="nothing_like_it"):
        jit.load([code]).address("nothing_like_it")
    with pytest.raises(RuntimeError):
        jit.load([b"not object code"]).address("f")


def test_deleted_libraries_free_their_code():
    """What is loaded and dropped a thousand times takes no memory for ever."""
    code = compile_ir(f"@x = global [{2**20} x i8] zeroinitializer\ndefine void @f() {{\n ret void\n}}")

    def size():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * 4096

    if not sys.platform.startswith("linux"):
        pytest.skip("the size is read from /proc")
    jit.load([code]).address("f")
    gc.collect()
    before = size()
    for _ in range(200):
        jit.load([code]).address("f")
    gc.collect()
    assert size() - before < 50 * 2**20, "of 200 MB"


def test_deleted_libraries_free_their_linker():
    code = compile_ir("define void @f() {\n ret void\n}")
    kept = jit.load([code])
    before = len(jit._Linker._all)
    for _ in range(4 * jit._LIBRARIES):
        jit.load([code]).address("f")
    gc.collect()
    assert len(jit._Linker._all) <= before + 1
    function(kept, "f", None)()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the size is read from /proc")
def test_loading_and_compiling_again_takes_no_memory():
    text = "define void @f() {\n ret void\n}"
    code = compile_ir(text)

    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def grown(work, times):
        for _ in range(100):
            work()
        before = resident()
        for _ in range(times):
            work()
        return (resident() - before) / times

    assert grown(lambda: jit.load([code]).address("f"), 1000) < 2000, "bytes a time, of 9,300 with one linker"
    assert grown(lambda: compile_ir(text), 1000) < 3000, "bytes a time, of 5,500 with new tools"


def test_parallel_compilation_gives_equal_code():
    texts = [LANES.replace("@scale", f"@scale{k}") for k in range(12)]
    assert jit.compile_all(texts) == [compile_ir(text) for text in texts]
    assert jit.compile_all([]) == []
    with pytest.raises(RuntimeError, match="expected type"):
        jit.compile_all([*texts, "define junk"])


@pytest.mark.skipif(usable_cpus() < 2, reason="one CPU: the modules are compiled one after the other")
def test_modules_compile_while_the_next_one_is_written(monkeypatch):
    compiled, emit = threading.Event(), jit._emit

    def watched(text, target):
        code = emit(text, target)
        compiled.set()
        return code

    def texts():
        yield LANES
        assert compiled.wait(60)
        yield LANES.replace("@scale", "@other")

    monkeypatch.setattr(jit, "_emit", watched)
    assert len(set(jit.compile_all(texts()))) == 2


def test_functions_that_run_once_are_compiled_without_optimization(monkeypatch):
    levels, tools = [], jit._tools
    monkeypatch.setattr(jit, "_tools", lambda target, level: levels.append(level) or tools(target, level))
    pool, runner = (request.make()[0] for request in (threads.code_request(), runner_code.code_request()))
    jit.compile_all([LANES])
    jit.compile_all([pool, runner])
    assert levels == [2, 0, 0]


def test_several_threads_compile_and_load():
    results = {}

    def work(k):
        for i in range(10):
            library = jit.load([compile_ir(f"define i64 @f() {{\n ret i64 {k * 100 + i}\n}}")])
            results[k, i] = function(library, "f", ctypes.c_int64)()

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == {(k, i): k * 100 + i for k in range(6) for i in range(10)}


@pytest.mark.parametrize(("change", "said"), [
    ({"os.name": "nt", "platform.system": lambda: "Windows"}, "POSIX threads, which Windows has not"),
    ({"platform.machine": lambda: "riscv64"}, "not for riscv64"),
    ({"sys.maxsize": 2**31 - 1}, "in 32 bits"),
    ({"importlib.util.find_spec": lambda name: None}, r"pip install minigrad\[native\]"),
    ({"_llvmlite_version": lambda: (0, 44)}, r"llvmlite 0\.44 is too old")])
def test_unsupported_machines(change, said, monkeypatch):
    for name, value in change.items():
        monkeypatch.setattr(f"{jit.__name__}.{name}", value)
    assert re.search(said, jit.available.__wrapped__())
    monkeypatch.setattr(jit, "available", jit.available.__wrapped__)
    with pytest.raises(Unsupported, match=said):
        jit._llvm.__wrapped__()


def test_windows_has_no_forks():
    """There minigrad is imported as everywhere; that native code cannot run is said when it is asked for."""
    script = ("import os, random; del os.register_at_fork; from minigrad.backends.native.runtime import threads; "
              "threads.get_num_threads()")
    subprocess.run([sys.executable, "-c", script], timeout=300, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_llvmlite_is_imported_late():
    script = ("import sys; from minigrad.backends.native.runtime import cache, jit, threads; "
              "threads.get_num_threads(); print([m for m in ('llvmlite', 'threadpoolctl') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "[]"


FORKS = """
import os, threading
from minigrad.backends.native.runtime import jit, threads
threads.symbols()

def other():  # compiles several at once, and throws away what it had
    k = 0
    while not stop:
        k += 2
        jit.load(jit.compile_all([f"define i64 @f{i}() {{\\n ret i64 {i}\\n}}" for i in (k, k + 1)]))

stop = False
thread = threading.Thread(target=other)
thread.start()
for n in range(60):
    child = os.fork()
    if not child:
        library = jit.load([jit.compile_all(["define i64 @g() {\\n ret i64 1\\n}"])[0]])
        os._exit(0 if library.address("g") else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
"""


def test_gate_closes_when_no_thread_is_inside():
    gate, inside, go, closed = jit._Gate(), threading.Event(), threading.Event(), threading.Event()

    def passes():
        with gate.passed():
            inside.set()
            assert go.wait(60)

    def closes():
        with gate.closed(), gate.passed():  # the thread that closes it still passes
            closed.set()

    threads = [threading.Thread(target=f) for f in (passes, closes)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    assert not closed.wait(0.1)
    go.set()
    for thread in threads:
        thread.join()
    assert closed.is_set()


def test_passage_that_an_interrupt_drops_ends():
    gate, closed = jit._Gate(), []
    passage = gate.passed()
    passage.__enter__()
    del passage

    def closes():
        with gate.closed():
            closed.append(True)

    thread = threading.Thread(target=closes, daemon=True)
    thread.start()
    thread.join(60)
    assert closed


def test_passages_one_after_the_other_take_one_lock():
    gate = jit._Gate()
    for _ in range(3):
        with contextlib.suppress(KeyboardInterrupt), gate.passed():
            raise KeyboardInterrupt
    assert len(gate._locks) == 1


FORK_AT_START = """
import os, threading, time
import llvmlite.binding as llvm
from minigrad.backends.native.runtime import jit
initialize, began = llvm.initialize_native_target, threading.Event()

def slowly():
    began.set()
    time.sleep(0.5)  # the fork waits by now
    initialize()

llvm.initialize_native_target = slowly
thread = threading.Thread(target=jit.host)
thread.start()
assert began.wait(60)
child = os.fork()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""

INTERRUPTED_FORK = """
import os, signal, threading, time
from minigrad.backends.native.runtime import jit

def compile():
    with jit._compiling.passed():
        began.set()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)  # the fork waits by now
        time.sleep(0.5)

signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background ignore it
began = threading.Event()
thread = threading.Thread(target=compile)
thread.start()
assert began.wait(60)
child = os.fork()
jit.compile_all(["define i64 @f() {\\n ret i64 1\\n}"])
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("script", [FORK_AT_START, INTERRUPTED_FORK])
def test_fork_and_compilation_never_wait_for_each_other(script):
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_forks_while_another_thread_compiles():
    """Neither parent nor child waits for a lock that nobody will release."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], timeout=300, check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
