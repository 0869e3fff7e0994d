"""The JIT: compiles LLVM IR for a machine, and links and loads the machine code.

Kernels consist of explicit vectors, so few passes suffice: no vectoriser, no unrolling. Object code is position
independent with the small code model: constants are read beside the code, and calls to functions far away (the C
library, BLAS) go through stubs that the linker makes, so that no distance matters.
"""

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import itertools
import os
import platform
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from ....errors import Unsupported
from ....locks import Setting, hold_at_forks, importing
from .cpus import usable_cpus

if TYPE_CHECKING:
    from llvmlite import binding

lock = threading.RLock()  # held while LLVM links, so that no fork happens then
building = threading.RLock()  # the same for the thread that builds programs in the background; taken before `lock`
turn = threading.RLock()  # held while a thread waits for `building`, so that a fork comes before the next program
_names = itertools.count()

_PASSES = ("always_inliner", "sroa", "simplify_cfg", "instruction_combine")  # more makes no shorter code of kernels
_CODE = {"reloc": "pic", "codemodel": "small"}
_LEVEL, _QUICK = 2, 0  # of optimization; the second of modules marked quick, or whose functions are "optnone"
_MARK = "; quick\n"
_COMPILERS = 8  # threads that compile at the same time
_LIBRARIES = 64  # of one linker
_TURN = 2e-4  # seconds until a thread that runs Python lets another one go on, during a compilation


class _Gate:
    """A gate that any number of threads pass; a thread that forks closes it when none is inside, and still passes.

    A thread inside holds a lock, and the thread that closes the gate takes all locks. A counter of the threads inside
    would stay too high after an interrupt between two steps.
    """

    def __init__(self) -> None:
        self._locks: list[threading.RLock] = []
        self._idle: deque[threading.RLock] = deque()
        self._adding = threading.RLock()  # held while the gate is closed, too

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        """Be inside; a context that an interrupt drops ends, too."""
        try:
            lock = self._idle.pop()
        except IndexError:
            with self._adding:
                lock = threading.RLock()
                self._locks.append(lock)
        try:
            with lock:
                yield
        finally:
            self._idle.append(lock)

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Wait until no thread is inside, and let none in meanwhile."""
        with contextlib.ExitStack() as held:
            held.enter_context(self._adding)
            for lock in self._locks:
                held.enter_context(lock)
            yield


_compiling = _Gate()  # passed while LLVM compiles


def _switch() -> None:
    """Let threads take turns often: one that calls LLVM needs Python's lock for a moment between its calls, and would
    wait 5 ms for each while another one runs Python.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), _TURN))


_switching = Setting(_switch, lambda: functools.partial(sys.setswitchinterval, sys.getswitchinterval()))


class Target(NamedTuple):
    """A machine to generate code for: what LLVM calls its triple, CPU and features (``"+avx2,-sse4a"``)."""

    triple: str
    cpu: str
    features: str = ""

    @property
    def arch(self) -> str:
        """``"x86_64"`` or ``"aarch64"``."""
        arch = self.triple.partition("-")[0]
        return "aarch64" if arch.startswith("arm64") else arch


@functools.cache
def available() -> str | None:
    """Return None if native code can run, otherwise the reason, in words."""
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed: pip install minigrad[native]"
    if os.name != "posix":
        return f"native code needs POSIX threads, which {platform.system()} has not"
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64", "aarch64", "arm64") or sys.maxsize < 2**32:
        return f"native code is made for 64-bit x86 and ARM, not for {machine} in {sys.maxsize.bit_length() + 1} bits"
    if _llvmlite_version() < (0, 45):
        return f"llvmlite {'.'.join(map(str, _llvmlite_version()))} is too old: 0.45 or newer is needed"
    return None


@functools.cache
def host() -> Target:
    """Return this machine, with vectors of 512 bits where it has them.

    LLVM keeps to 256 bits on several CPUs that have 512 (``prefer-256-bit``), because code that uses wide vectors
    now and then may run slower for it; kernels use them throughout.
    """
    llvm = _llvm()
    features = dict(llvm.get_host_cpu_features())
    if platform.machine().lower() in ("x86_64", "amd64"):
        features["prefer-256-bit"] = False
    text = ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(features.items()))
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), text)


def has_fma(target: Target | None = None) -> bool:
    """Return whether `target` (this machine) multiplies and adds in one instruction, so that llvm.fma costs no call."""
    target = target or host()
    if target.arch == "aarch64":
        return True
    features = target.features.split(",")
    return "+fma" in features or (target.cpu in ("x86-64-v3", "x86-64-v4") and "-fma" not in features)


def masks_bytes(target: Target | None = None) -> bool:
    """Return whether `target` (this machine) loads vectors of bytes with a mask in one instruction."""
    target = target or host()
    return target.cpu == "x86-64-v4" or "+avx512bw" in target.features.split(",")


def compile_all(texts: Iterable[str], target: Target | None = None) -> list[bytes]:
    """Return the object code of several modules of LLVM IR for `target` (this machine), optimised, by several threads.

    A module needs no triple and no data layout: those of the target are set. Malformed IR raises RuntimeError.

    LLVM compiles a module while Python writes the next one, if `texts` is a generator. The threads are plain ones: an
    executor's have a lock that a fork takes before it waits for ours.
    """
    target = target or host()
    waiting: deque[str] = deque()
    results: dict[str, bytes | Exception | None] = {}  # None: waits, or is being compiled
    workers: list[threading.Thread] = []

    def work() -> None:
        with contextlib.suppress(IndexError):  # nothing waits
            while not _ended():
                text = waiting.popleft()
                try:
                    with _compiling.passed():
                        results[text] = _emit(text, target)
                except Exception as error:  # without frames: a cycle of them could free a module after its context
                    results[text] = error.with_traceback(None)

    with _switching.changed():
        order = []
        try:
            for text in texts:
                order.append(text)
                if text not in results:
                    results[text] = None
                    waiting.append(text)
                    workers = [w for w in workers if w.is_alive()]
                    if len(workers) < min(usable_cpus(), _COMPILERS) - 1 and not _ending:
                        worker = threading.Thread(target=work)
                        with contextlib.suppress(RuntimeError):  # no more threads can be had: the others do it all
                            worker.start()
                            workers.append(worker)
            work()
        finally:
            for worker in workers:
                worker.join()
    codes = []
    for result in map(results.__getitem__, order):
        if isinstance(result, Exception):
            raise result
        if result is None:
            raise RuntimeError("the interpreter ends: nothing is compiled for its daemon threads")
        codes.append(result)
    return codes


def quick(text: str) -> str:
    """Return a module that compiles in a third of the time, to slower code with the same results."""
    return _MARK + text


def warm_up() -> None:
    """Compile an empty function: LLVM prepares its passes and this machine's tables for the first one."""
    target = host()
    with _switching.changed(), _compiling.passed():
        _emit('define void @"empty"() {\nret void\n}', target)


def compile_then(text: str, keep: Callable[[bytes], None]) -> bytes:
    """Return the object code of a module for this machine; the end of the process waits until `keep` has it, too."""
    with _compiling.passed():
        code = _emit(text, host())
        keep(code)
    return code


def load(objects: Iterable[bytes], symbols: Mapping[str, int] | None = None, keep: bool = False) -> "Library":
    """Link object code of this machine together and load it.

    Parameters
    ----------
    objects : iterable of bytes
        Results of `compile_all`. Each can use the definitions of the others, and none of other libraries.
    symbols : mapping of name to address, optional
        Functions and data that the code declares and that the process has under another name or none: NumPy's BLAS,
        functions of other libraries. All others are looked up in the process: the C library, its mathematical
        functions, its threads.
    keep : bool
        Whether the code stays in memory until the process ends, since it may still run then.

    Raises
    ------
    RuntimeError
        If a symbol is defined twice.
    """
    library = Library(objects, symbols or {})
    if keep:
        _keep(library)
    return library


class Library:
    """Machine code in memory, as long as this object lives: users of an address hold the object, too."""

    def __init__(self, objects: Iterable[bytes], symbols: Mapping[str, int]):
        llvm = _llvm()
        self._name = f"minigrad.{next(_names)}"
        self._trackers: dict[str, Mapping[str, int]] = {}
        builder = llvm.JITLibraryBuilder().add_current_process()
        for code in objects:
            builder.add_object_img(code)
        for name, address in symbols.items():
            builder.import_symbol(name, address)
        with lock:
            self._linker = _Linker.next()
            self._library = builder.link(self._linker.jit, self._name)

    def address(self, name: str) -> int:
        """Return the address of a function or of data that the code defines.

        Raises
        ------
        RuntimeError
            If the code does not define it, or uses an undefined symbol.
        """
        with lock:
            if name not in self._trackers:
                self._trackers[name] = self._linker.jit.lookup(self._name, name)
            return self._trackers[name][name]


# -- LLVM ----------------------------------------------------------------------------------------------------


def _llvmlite_version() -> tuple[int, ...]:
    with importing:
        import llvmlite

    return tuple(int(part) for part in llvmlite.__version__.split(".")[:2])


@functools.cache
def _llvm() -> ModuleType:
    """Return `llvmlite.binding`, made ready for this machine."""
    if reason := available():
        raise Unsupported(reason)
    _open_library()
    with importing:  # and not `lock`: no thread waits here for code that another one compiles
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    module: ModuleType = llvm
    return module


def _open_library() -> None:
    """Open LLVM's library in front of llvmlite's import, which holds up all imports: they go on meanwhile."""
    with importing:
        from llvmlite import utils

    path = Path(utils.__file__).parent / "binding" / utils.get_library_name()
    if path.exists():
        with lock:
            ctypes.CDLL(str(path))


def toolchain() -> str:
    """Return the versions and options on which object code depends, beside its text and its target."""
    with importing:
        import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {_llvm().llvm_version_info}, {_PASSES}, {_LEVEL}, {_CODE}"


def _machine(target: Target, level: int = _LEVEL, jit: bool = False) -> "binding.TargetMachine":
    llvm = _llvm()
    if target.arch != host().arch:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, **_CODE, jit=jit)


def _emit(text: str, target: Target) -> bytes:
    """Compile a module, in a context and with a machine of its own, so that several threads can do so at once."""
    llvm = _llvm()
    with _tools(target, _QUICK if text.startswith(_MARK) or "optnone" in text else _LEVEL) as (machine, passes):
        module = llvm.parse_assembly(text, llvm.create_context())
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
        _unlocked("LLVMPY_RunNewModulePassManager")(passes, module, builder)
        with llvm.ffi.OutputString() as error:
            buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, True, error)
            if not buffer:
                raise RuntimeError(str(error))
    try:
        library = llvm.ffi.lib
        return ctypes.string_at(library.LLVMPY_GetBufferStart(buffer), library.LLVMPY_GetBufferSize(buffer))
    finally:
        library.LLVMPY_DisposeMemoryBuffer(buffer)


_Tools: TypeAlias = "tuple[binding.TargetMachine, binding.ModulePassManager]"
_idle: dict[tuple[Target, int], list["_Tools"]] = {}


@contextlib.contextmanager
def _tools(target: Target, level: int = _LEVEL) -> Iterator["_Tools"]:
    """Lend a machine and a pass manager to one thread; both are used again, as LLVM leaks part of each."""
    idle = _idle.setdefault((target, level), [])
    try:
        tools = idle.pop()
    except IndexError:
        passes = _llvm().create_new_module_pass_manager()
        for name in _PASSES:
            getattr(passes, f"add_{name}_pass")()
        tools = _machine(target, level), passes
    yield tools
    idle.append(tools)  # not after an error, which may leave them unfit


@functools.cache
def _unlocked(name: str) -> Callable[..., int]:
    """Return a function of llvmlite's library without llvmlite's global lock.

    LLVM needs no lock if threads share neither a context nor a machine, as in the two functions here, which take nearly
    all the time.
    """
    library = _llvm().ffi.lib
    locked = getattr(library, name)
    function = getattr(ctypes.CDLL(library._name), name)
    function.argtypes, function.restype = locked.argtypes, locked.restype
    unlocked: Callable[..., int] = function
    return unlocked


class _Linker:
    """A linker and its memory, for a bounded number of libraries.

    LLVM keeps about 10 kB of each library that it has linked, even of a deleted one, and frees that with the linker
    only. So a linker goes with the last of its libraries.
    """

    _latest: ClassVar["_Linker | None"] = None
    _all: ClassVar["weakref.WeakSet[_Linker]"] = weakref.WeakSet()

    def __init__(self) -> None:
        self.jit = _llvm().create_lljit_compiler(_machine(host(), jit=True), use_jit_link=True)
        self._left = _LIBRARIES
        self._all.add(self)
        if _ending:
            _keep(self)

    @classmethod
    def next(cls) -> "_Linker":
        """Return the linker of one more library. The lock is held."""
        if cls._latest is None or not cls._latest._left:
            cls._latest = cls()
        cls._latest._left -= 1
        return cls._latest

    @classmethod
    def _at_exit(cls) -> None:
        """Keep all linkers: their code may be running when the interpreter ends."""
        for linker in cls._all:
            _keep(linker)


atexit.register(_Linker._at_exit)
_ending = False


def _end() -> None:
    """Wait for the module that a daemon thread compiles: LLVM must be idle when the process ends, and stays so.

    Functions that run later at the exit of this thread can compile.
    """
    global _ending
    _ending = True
    lock.acquire()
    closed = _compiling.closed()
    closed.__enter__()
    _keep(closed)


def ending() -> bool:
    """Return whether the interpreter ends: threads in the background wait for good, with the locks that they hold."""
    return _ending


def _ended() -> bool:
    """Return whether the interpreter ends, so that a daemon thread is to compile nothing more."""
    return _ending and threading.current_thread().daemon


atexit.register(_end)


def _keep(thing: object) -> None:
    """Keep an object for ever: the interpreter, when it ends, deletes no object with a reference."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@contextlib.contextmanager
def _at_rest() -> Iterator[None]:
    """Keep LLVM idle, so that a forked child inherits no lock that another thread holds.

    At the end of the interpreter the thread in the background waits for `lock`, for good, and its build never ends.
    """
    with contextlib.ExitStack() as held:
        for each in (lock,) if _ending else (turn, building, lock):
            held.enter_context(each)
        held.enter_context(_compiling.closed())
        yield


def _lock_of_llvmlite() -> contextlib.AbstractContextManager[object]:
    """Return the lock of llvmlite, which other libraries take, too, and which the collector takes within imports."""
    lib = getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None)
    return getattr(lib, "_lock", contextlib.nullcontext())


hold_at_forks(_at_rest)
hold_at_forks(_lock_of_llvmlite, after_imports=True)
