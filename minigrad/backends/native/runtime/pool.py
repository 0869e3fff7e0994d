"""The thread pool's machine code, as LLVM IR; `threads` documents its interface.

One word, the gate, opens and closes a job: it holds the number of workers inside, the places left for others, and the
job's number, so that one atomic exchange tells a worker whether it may enter, and its number. A counter hands out runs
of items, long ones first (Polychronopoulos and Kuck, "Guided self-scheduling", 1987): neighbours on one thread share
its cache, and the last items even out the load. The caller opens the gate, works, closes it (no place is left), and
waits until no worker is inside: nothing of a job is read after that. A worker without a job spins for some
microseconds, yielding its CPU to others meanwhile, and then sleeps on a condition variable. A thread announces its
sleep and then reads the gate again; the caller opens the gate and then looks for sleepers: one of the two sees the
other.

Linux often places a woken thread on the CPU of the thread that wakes it, though others are idle: in a virtual machine
an idle CPU looks taken. There it would wait until the caller has done its items, call after call. So the caller, before
it wakes a worker, takes its own CPU out of the worker's set; the worker, once it runs, puts the set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..llvm import ir
from ..llvm.builder import BLOCK, ONE, Builder
from ..llvm.values import I1, I8, I32, I64, PTR, VOID, any_lane, intrinsic
from .jit import Target

# The gate, from its lowest bit: the workers inside, the places left, the job's number.
_PLACE = 1 << 16
_JOB = 1 << 32

_SPIN = 2048  # pauses before a thread sleeps: 30 to 90 microseconds
_SHARES = 4  # a thread takes a run of one in so many of its share of the items left
_YIELD = 64  # pauses between two times that the CPU is offered to others

_ROOM = ir.ArrayType(I8, 128)  # for a mutex, a condition variable or a set of signals of any system
_CPUS = ir.VectorType(I64, 16)  # a set of 1024 CPUs, one bit each
# A sleeping worker, in its own memory: the next of the sleepers, whether it is called, its thread, and its CPUs while
# it is kept off the caller's.
_SLEEPER = ir.LiteralStructType([PTR, I64, I64, I64, _ROOM, _CPUS])
_NEXT, _CALLED, _THREAD, _KEPT_OFF, _WAKE, _OWN = range(6)
# The state, and its alignment: what different threads write lies on different cache lines.
_STATE = (
    ("gate", I64, 128), ("next", I64, 128), ("block", BLOCK.as_pointer(), 128), ("context", PTR, 8), ("items", I64, 8),
    ("workers", I64, 8), ("threads", I64, 128), ("busy", I64, 128), ("sleepers", I64, 128), ("caller", I64, 8),
    ("sleeper", PTR, 8), ("mutex", _ROOM, 128))


def text(target: Target) -> str:
    """Return the pool as LLVM IR."""
    pool = _Pool(target)
    pool.work()
    pool.worker()
    pool.parallel()
    pool.set_threads()
    pool.reset()
    return str(pool.module)


class _Pool(Builder):
    """Writes the pool's functions. An access to the state is atomic where it names an order."""

    def __init__(self, target: Target):
        super().__init__("pool", once=True)
        self.target, self.pins = target, "linux" in target.triple
        for name, kind, align in _STATE:
            ir.GlobalVariable(self.module, kind, name, ir.Constant(kind, None), align=align)

    def state(self, name: str) -> ir.GlobalVariable:
        return self.module.variables[name]

    def read(self, name: str, order: str = "") -> ir.Value:
        word = self.state(name)
        return self.b.load_atomic(word, order, 8, typ=I64) if order else self.b.load(word, typ=word.value_type)

    def write(self, name: str, x: ir.Value, order: str = "") -> None:
        if order:
            self.b.store_atomic(x, self.state(name), order, 8)
        else:
            self.b.store(x, self.state(name))

    def exchanged(self, name: str, old: ir.Value, new: ir.Value) -> ir.Value:
        """Return whether a word was `old`, and is `new` now."""
        return self.b.extract_value(self.b.cmpxchg(self.state(name), old, new, "acquire", "monotonic"), 1)

    def call(self, name: str, *args: ir.Value) -> ir.Value:
        """Call a function of the C library."""
        return self.b.call(self.intrinsic(name, I32, [a.type for a in args]), args)

    def on_state(self, name: str, *words: str) -> None:
        """Call a function of the C library on parts of the state."""
        self.call(name, *map(self.state, words))

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.on_state("pthread_mutex_lock", "mutex")
        yield
        self.on_state("pthread_mutex_unlock", "mutex")

    def spin(self, waits: Callable[[], ir.Value]) -> None:
        """Pause while a condition holds, `_SPIN` times at most."""
        b, turn = self.b, self.variable(I64(0))
        name, args = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.isb", [I32(15)])}[
            self.target.arch]
        with self.repeated(lambda: b.and_(waits(), b.icmp_signed("<", self.get(turn), I64(_SPIN)))):
            turns = b.add(self.get(turn), ONE)
            b.store(turns, turn)
            b.call(self.intrinsic(name, VOID, [a.type for a in args]), args)
            # Now and then another thread may have the CPU: perhaps the one waited for.
            with b.if_then(b.icmp_signed("==", b.and_(turns, I64(_YIELD - 1)), I64(0))):
                self.call("sched_yield")

    # -- jobs ----------------------------------------------------------------------------------------------

    def parallel(self) -> None:
        with self.function("mg_parallel", [BLOCK.as_pointer(), PTR, I64, I64], "") as f:
            b, (block, context, items, most) = self.b, f.args
            team = intrinsic(b, "smin", intrinsic(b, "smin", self.read("threads", "monotonic"), most), items)
            free = self.variable(I1(0))
            with b.if_then(b.icmp_signed(">", team, ONE)):
                b.store(self.exchanged("busy", I64(0), ONE), free)
            with b.if_else(self.get(free)) as (together, alone):
                with alone, self.counting(I64(0), items) as i:
                    b.call(block, [context, i, I64(0)])
                with together:
                    places = b.sub(team, ONE)
                    self.hire(places)
                    for name, x in (("block", block), ("context", context), ("items", items)):
                        self.write(name, x)
                    self.write("next", I64(0), "monotonic")
                    number = b.add(b.and_(self.read("gate", "monotonic"), I64(-_JOB)), I64(_JOB))
                    self.write("gate", b.or_(number, b.mul(places, I64(_PLACE))), "seq_cst")
                    self.wake(places)
                    b.call(self.module.functions["work"], [I64(0)])
                    self.close()
                    self.write("busy", I64(0), "release")

    def hire(self, places: ir.Value) -> None:
        """Start the missing workers, as far as threads can be had."""
        b, mask = self.b, I32(3 if "apple" in self.target.triple else 2)
        every, old, thread = self.room(_ROOM, align=16), self.room(_ROOM, align=16), self.room(I64)
        nothing = ir.Constant(PTR, None)

        def missing() -> ir.Value:
            return b.icmp_signed("<", self.read("workers"), places)

        with b.if_then(missing()):
            self.call("sigfillset", every)
            self.call("pthread_sigmask", mask, every, old)  # signals are for the threads of the interpreter
            created = self.variable(I1(1))
            with self.repeated(lambda: b.and_(self.get(created), missing())):
                failed = self.call("pthread_create", thread, nothing, self.module.functions["worker"], nothing)
                b.store(b.icmp_signed("==", failed, I32(0)), created)
                with b.if_then(self.get(created)):
                    self.write("workers", b.add(self.read("workers"), ONE))
                    self.call("pthread_detach", b.load(thread, typ=I64))
            self.call("pthread_sigmask", mask, old, nothing)

    def wake(self, places: ir.Value) -> None:
        """Call as many sleepers as there are places without a worker that is awake."""
        b = self.b
        sleepers, workers = self.read("sleepers", "seq_cst"), self.read("workers")
        missing = b.sub(intrinsic(b, "smin", places, workers), b.sub(workers, sleepers))
        with self.counting(I64(0), missing), self.locked():  # a worker that found the gate closed is asleep by now
            sleeper = self.read("sleeper")
            with b.if_then(self.exists(sleeper)):
                self.write("sleeper", self.read_part(sleeper, _NEXT))
                b.atomic_rmw("sub", self.state("sleepers"), ONE, "seq_cst")
                b.store(ONE, self.part(sleeper, _CALLED))
                self.signal(sleeper)

    def work(self) -> None:
        """Write the function that takes items until none is left."""
        with self.function("work", [I64]) as f:
            b = self.b
            block, context, items = map(self.read, ("block", "context", "items"))
            shares = b.mul(self.read("threads", "monotonic"), I64(_SHARES))
            first, end = (self.variable(I64(0)) for _ in range(2))

            def taken() -> ir.Value:
                left = b.sub(items, self.read("next", "monotonic"))
                count = intrinsic(b, "smax", b.sdiv(left, shares), ONE)
                start = b.atomic_rmw("add", self.state("next"), count, "monotonic")
                b.store(start, first)
                b.store(intrinsic(b, "smin", b.add(start, count), items), end)
                return b.icmp_signed("<", start, items)

            with self.repeated(taken), self.counting(self.get(first), self.get(end)) as item:
                b.call(block, [context, item, f.args[0]])

    def close(self) -> None:
        """Leave no place, and wait until no worker is inside."""
        b = self.b
        b.atomic_rmw("and", self.state("gate"), I64(~(_JOB - _PLACE)), "seq_cst")

        def occupied(order: str) -> ir.Value:
            return b.icmp_signed("!=", b.and_(self.read("gate", order), I64(_PLACE - 1)), I64(0))

        self.spin(lambda: occupied("acquire"))
        with b.if_then(occupied("acquire")):
            sleeper = self.sleeper()
            with self.locked():
                self.write("caller", b.ptrtoint(sleeper, I64), "seq_cst")
                self.wait(sleeper, lambda: occupied("seq_cst"))
                self.write("caller", I64(0), "seq_cst")
            self.put_back(sleeper)
            self.call("pthread_cond_destroy", self.part(sleeper, _WAKE))

    # -- workers -------------------------------------------------------------------------------------------

    def worker(self) -> None:
        """Write the function of a worker, which never returns."""
        with self.function("worker", [PTR]):
            b, sleeper = self.b, self.sleeper()
            seen, gate = (self.variable(I64(0)) for _ in range(2))  # the number of the last job, and the gate

            def closed(order: str = "") -> ir.Value:
                """Return whether the gate invites no worker: as it is now, or when it was read last."""
                if order:
                    b.store(self.read("gate", order), gate)
                full = b.icmp_signed("==", b.and_(self.get(gate), I64(_JOB - _PLACE)), I64(0))
                return b.or_(full, b.icmp_signed("==", self.job(gate), self.get(seen)))

            with self.repeated(lambda: I1(1)):
                self.spin(lambda: closed("monotonic"))
                with b.if_else(closed()) as (sleep, enter):
                    with sleep:
                        self.sleep(sleeper, lambda: closed("seq_cst"))
                    with enter:
                        now = self.get(gate)  # one more inside, one place less
                        with b.if_then(self.exchanged("gate", now, b.add(now, I64(1 - _PLACE)))):
                            self.serve(now)
                            b.store(self.job(gate), seen)

    def sleep(self, sleeper: ir.Value, closed: Callable[[], ir.Value]) -> None:
        """Sleep until called, unless the gate has opened."""
        b = self.b
        with self.locked():
            b.atomic_rmw("add", self.state("sleepers"), ONE, "seq_cst")
            with b.if_else(closed()) as (stay, leave):
                with stay:
                    b.store(I64(0), self.part(sleeper, _CALLED))
                    b.store(self.read("sleeper"), self.part(sleeper, _NEXT))
                    self.write("sleeper", sleeper)
                    self.wait(sleeper, lambda: b.icmp_signed("==", self.read_part(sleeper, _CALLED), I64(0)))
                with leave:
                    b.atomic_rmw("sub", self.state("sleepers"), ONE, "seq_cst")
        self.put_back(sleeper)

    def job(self, gate: ir.Value) -> ir.Value:
        return self.b.lshr(self.get(gate), I64(_JOB.bit_length() - 1))

    def serve(self, gate: ir.Value) -> None:
        """Work, leave, and wake the caller if it waits for this worker."""
        b = self.b
        thread = b.and_(b.lshr(gate, I64(_PLACE.bit_length() - 1)), I64(_PLACE - 1))
        b.call(self.module.functions["work"], [thread])
        inside = b.and_(b.atomic_rmw("sub", self.state("gate"), ONE, "seq_cst"), I64(_JOB - 1))
        caller = self.variable(I64(0))

        def waits(order: str) -> ir.Value:
            b.store(self.read("caller", order), caller)
            return b.icmp_signed("!=", self.get(caller), I64(0))

        with (b.if_then(b.icmp_signed("==", inside, ONE)), b.if_then(waits("seq_cst")), self.locked(),
              b.if_then(waits("monotonic"))):
            self.signal(b.inttoptr(self.get(caller), PTR))

    # -- sleepers ------------------------------------------------------------------------------------------

    def sleeper(self) -> ir.Value:
        """Return this thread as a sleeper, in the memory of the function that is written."""
        b, sleeper = self.b, self.room(_SLEEPER, align=128)
        b.store(b.call(self.intrinsic("pthread_self", I64, []), []), self.part(sleeper, _THREAD))
        b.store(I64(0), self.part(sleeper, _KEPT_OFF))
        self.call("pthread_cond_init", self.part(sleeper, _WAKE), ir.Constant(PTR, None))
        return sleeper

    def part(self, sleeper: ir.Value, field: int) -> ir.Value:
        """Return the address of a field."""
        return self.b.gep(sleeper, [I32(0), I32(field)], source_etype=_SLEEPER)

    def read_part(self, sleeper: ir.Value, field: int) -> ir.Value:
        return self.b.load(self.part(sleeper, field), typ=_SLEEPER.elements[field])

    def exists(self, sleeper: ir.Value) -> ir.Value:
        return self.b.icmp_unsigned("!=", sleeper, ir.Constant(PTR, None))

    def wait(self, sleeper: ir.Value, condition: Callable[[], ir.Value]) -> None:
        """Sleep while a condition holds, looking at it after each signal; the mutex is held."""
        with self.repeated(condition):
            self.call("pthread_cond_wait", self.part(sleeper, _WAKE), self.state("mutex"))

    def signal(self, sleeper: ir.Value) -> None:
        """Wake a sleeper on another CPU than this thread's, if it may use others; the mutex is held."""
        b, size = self.b, I64(8 * _CPUS.count)
        if self.pins:
            thread, own = self.read_part(sleeper, _THREAD), self.part(sleeper, _OWN)
            cpu = b.sext(b.call(self.intrinsic("sched_getcpu", I32, []), []), I64)
            new = b.and_(b.icmp_unsigned("<", cpu, I64(64 * _CPUS.count)),
                         b.icmp_signed("==", self.read_part(sleeper, _KEPT_OFF), I64(0)))
            with (b.if_then(new),
                  b.if_then(b.icmp_signed("==", self.call("pthread_getaffinity_np", thread, size, own), I32(0)))):
                others = self.room(_CPUS)
                b.store(b.load(own, typ=_CPUS), others)
                word = self.element(others, b.lshr(cpu, I64(6)), 8)
                b.store(b.and_(b.load(word, typ=I64), b.not_(b.shl(ONE, b.and_(cpu, I64(63))))), word)
                left, none = b.load(others, typ=_CPUS), ir.Constant(_CPUS, None)
                with b.if_then(b.and_(*(any_lane(b, b.icmp_signed("!=", left, x))
                                        for x in (none, b.load(own, typ=_CPUS))))):
                    failed = self.call("pthread_setaffinity_np", thread, size, others)
                    b.store(b.zext(b.icmp_signed("==", failed, I32(0)), I64), self.part(sleeper, _KEPT_OFF))
        self.call("pthread_cond_signal", self.part(sleeper, _WAKE))

    def put_back(self, sleeper: ir.Value) -> None:
        """Let this thread use all its CPUs again."""
        b, kept_off = self.b, self.part(sleeper, _KEPT_OFF)
        if self.pins:
            with b.if_then(b.icmp_signed("!=", b.load(kept_off, typ=I64), I64(0))):
                b.store(I64(0), kept_off)
                self.call("pthread_setaffinity_np", self.read_part(sleeper, _THREAD), I64(8 * _CPUS.count),
                          self.part(sleeper, _OWN))

    # -- from Python ---------------------------------------------------------------------------------------

    def set_threads(self) -> None:
        with self.function("mg_pool_set_threads", [I64], "") as f:
            self.write("threads", f.args[0], "monotonic")

    def reset(self) -> None:
        """Write the function that runs while no other thread does: before the first job, in a child just forked."""
        with self.function("mg_pool_reset", [], ""):
            self.call("pthread_mutex_init", self.state("mutex"), ir.Constant(PTR, None))
            for name in ("gate", "workers", "sleepers", "caller", "busy"):
                self.write(name, I64(0))
            self.write("sleeper", ir.Constant(PTR, None))
