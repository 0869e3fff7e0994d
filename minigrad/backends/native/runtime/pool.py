"""The thread pool's machine code, as LLVM IR; `threads` documents its interface.

One word, the gate, opens and closes a job: it holds the number of workers inside, the places left for others, and the
job's number, so that one atomic exchange tells a worker whether it may enter, and its number. A counter hands out the
items. The caller opens the gate, works, closes it (no place is left), and waits until no worker is inside: nothing of a
job is read after that. A worker without a job spins for some microseconds, yielding its CPU to others meanwhile, and
then sleeps on a condition variable. A thread announces its sleep and then reads the gate again; the caller opens the
gate and then looks for sleepers: one of the two sees the other.
"""

import re

from .jit import Target

LIMIT = 1024  # threads at most: more than helps anybody

# The gate, from its lowest bit: the workers inside, the places left, the job's number.
_PLACE = 1 << 16
_JOB = 1 << 32

_SPIN = 2048  # pauses before a thread sleeps: 30 to 90 microseconds
_YIELD = 64  # pauses between two times that the CPU is offered to others


def text(target: Target) -> str:
    """Return the pool as LLVM IR."""
    mac = "apple" in target.triple
    pause = {"x86_64": "void @llvm.x86.sse2.pause()", "aarch64": "void @llvm.aarch64.isb(i32 15)"}[target.arch]
    declare = re.sub(r"i32 15", "i32", pause)
    return f"""
; -- state: what different threads write lies on different cache lines

@gate = internal global i64 0, align 128
@next = internal global i64 0, align 128
@block = internal global ptr null, align 128
@context = internal global ptr null
@items = internal global i64 0
@workers = internal global i64 0
@threads = internal global i64 1, align 128
@busy = internal global i64 0, align 128
@sleepers = internal global i64 0, align 128
@caller_sleeps = internal global i64 0
@mutex = internal global [128 x i8] zeroinitializer, align 128
@wake = internal global [128 x i8] zeroinitializer, align 16
@done = internal global [128 x i8] zeroinitializer, align 16

declare {declare}
declare i64 @llvm.smin.i64(i64, i64)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sched_yield()

; -- jobs

define void @mg_parallel(ptr %block, ptr %context, i64 %items, i64 %most) {{
entry:
  %set = load atomic i64, ptr @threads monotonic, align 8
  %allowed = call i64 @llvm.smin.i64(i64 %set, i64 %most)
  %team = call i64 @llvm.smin.i64(i64 %allowed, i64 %items)
  %several = icmp sgt i64 %team, 1
  br i1 %several, label %claim, label %alone

claim:
  %claimed = cmpxchg ptr @busy, i64 0, i64 1 acquire monotonic
  %free = extractvalue {{ i64, i1 }} %claimed, 1
  br i1 %free, label %together, label %alone

alone:
  %any = icmp sgt i64 %items, 0
  br i1 %any, label %each, label %end

each:
  %item = phi i64 [ 0, %alone ], [ %following, %each ]
  call void %block(ptr %context, i64 %item, i64 0)
  %following = add i64 %item, 1
  %more = icmp slt i64 %following, %items
  br i1 %more, label %each, label %end

end:
  ret void

together:
  %places = sub i64 %team, 1
  call void @hire(i64 %places)
  store ptr %block, ptr @block
  store ptr %context, ptr @context
  store i64 %items, ptr @items
  store atomic i64 0, ptr @next monotonic, align 8
  %last = load atomic i64, ptr @gate monotonic, align 8
  %bare = and i64 %last, {-_JOB}
  %numbered = add i64 %bare, {_JOB}
  %filled = mul i64 %places, {_PLACE}
  %opened = or i64 %numbered, %filled
  store atomic i64 %opened, ptr @gate seq_cst, align 8
  call void @wake_for(i64 %places)
  call void @work(i64 0)
  call void @close()
  store atomic i64 0, ptr @busy release, align 8
  ret void
}}

define internal void @wake_for(i64 %places) {{
entry:
  %sleepers = load atomic i64, ptr @sleepers seq_cst, align 8
  %workers = load i64, ptr @workers
  %useful = call i64 @llvm.smin.i64(i64 %places, i64 %workers)
  %awake = sub i64 %workers, %sleepers
  %missing = sub i64 %useful, %awake
  %any = icmp sgt i64 %missing, 0
  br i1 %any, label %settle, label %end

settle: ; whoever has looked at the gate and found it closed is asleep by now
  call i32 @pthread_mutex_lock(ptr @mutex)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %each

each:
  %left = phi i64 [ %missing, %settle ], [ %less, %each ]
  call i32 @pthread_cond_signal(ptr @wake)
  %less = sub i64 %left, 1
  %more = icmp sgt i64 %less, 0
  br i1 %more, label %each, label %end

end:
  ret void
}}

define internal void @work(i64 %thread) {{
entry:
  %block = load ptr, ptr @block
  %context = load ptr, ptr @context
  %items = load i64, ptr @items
  br label %take

take:
  %item = atomicrmw add ptr @next, i64 1 monotonic
  %more = icmp slt i64 %item, %items
  br i1 %more, label %run, label %end

run:
  call void %block(ptr %context, i64 %item, i64 %thread)
  br label %take

end:
  ret void
}}

define internal void @close() {{
entry:
  %before = atomicrmw and ptr @gate, i64 {~(_JOB - _PLACE)} seq_cst
  br label %look

look:
  %turn = phi i64 [ 0, %entry ], [ %next_turn, %pause ]
  %gate = load atomic i64, ptr @gate acquire, align 8
  %inside = and i64 %gate, {_PLACE - 1}
  %empty = icmp eq i64 %inside, 0
  br i1 %empty, label %end, label %patience

patience:
  %next_turn = add i64 %turn, 1
  %spin = icmp slt i64 %next_turn, {_SPIN}
  br i1 %spin, label %pause, label %sleep

pause:
  call void @pause(i64 %next_turn)
  br label %look

sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  store atomic i64 1, ptr @caller_sleeps seq_cst, align 8
  br label %check

check:
  %gate2 = load atomic i64, ptr @gate seq_cst, align 8
  %inside2 = and i64 %gate2, {_PLACE - 1}
  %empty2 = icmp eq i64 %inside2, 0
  br i1 %empty2, label %awake, label %wait

wait:
  call i32 @pthread_cond_wait(ptr @done, ptr @mutex)
  br label %check

awake:
  store atomic i64 0, ptr @caller_sleeps seq_cst, align 8
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %end

end:
  ret void
}}

define internal void @pause(i64 %turn) {{ ; now and then another thread may have the CPU: perhaps the one waited for
  call {pause}
  %round = and i64 %turn, {_YIELD - 1}
  %over = icmp eq i64 %round, 0
  br i1 %over, label %yield, label %end

yield:
  call i32 @sched_yield()
  br label %end

end:
  ret void
}}

; -- workers

define internal void @hire(i64 %wanted) {{
entry:
  %thread = alloca i64
  %all = alloca [128 x i8], align 16
  %old = alloca [128 x i8], align 16
  %have = load i64, ptr @workers
  %few = icmp slt i64 %have, %wanted
  br i1 %few, label %mask, label %end

mask: ; signals are for the threads of the interpreter
  call i32 @sigfillset(ptr %all)
  call i32 @pthread_sigmask(i32 {3 if mac else 2}, ptr %all, ptr %old)
  br label %each

each:
  %count = phi i64 [ %have, %mask ], [ %one_more, %hired ]
  %wanting = icmp slt i64 %count, %wanted
  br i1 %wanting, label %create, label %unmask

create:
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr null)
  %created = icmp eq i32 %failed, 0
  br i1 %created, label %hired, label %unmask

hired:
  %one_more = add i64 %count, 1
  store i64 %one_more, ptr @workers
  %id = load i64, ptr %thread
  call i32 @pthread_detach(i64 %id)
  br label %each

unmask:
  call i32 @pthread_sigmask(i32 {3 if mac else 2}, ptr %old, ptr null)
  br label %end

end:
  ret void
}}

define internal ptr @worker(ptr %nothing) {{
entry:
  br label %look

look:
  %seen = phi i64 [ 0, %entry ], [ %seen, %pause ], [ %seen, %rest ], [ %seen, %enter ], [ %job, %leave ]
  %turn = phi i64 [ 0, %entry ], [ %next_turn, %pause ], [ 0, %rest ], [ 0, %enter ], [ 0, %leave ]
  %gate = load atomic i64, ptr @gate monotonic, align 8
  %open = call i1 @invites(i64 %gate, i64 %seen)
  br i1 %open, label %enter, label %patience

patience:
  %next_turn = add i64 %turn, 1
  %spin = icmp slt i64 %next_turn, {_SPIN}
  br i1 %spin, label %pause, label %sleep

pause:
  call void @pause(i64 %next_turn)
  br label %look

enter: ; one more inside, one place less
  %entered = add i64 %gate, {1 - _PLACE}
  %swapped = cmpxchg ptr @gate, i64 %gate, i64 %entered acquire monotonic
  %in = extractvalue {{ i64, i1 }} %swapped, 1
  br i1 %in, label %serve, label %look

serve:
  %job = lshr i64 %gate, {_JOB.bit_length() - 1}
  %shifted = lshr i64 %gate, {_PLACE.bit_length() - 1}
  %thread = and i64 %shifted, {_PLACE - 1}
  call void @work(i64 %thread)
  %before = atomicrmw sub ptr @gate, i64 1 seq_cst
  %low = and i64 %before, {_JOB - 1}
  %last = icmp eq i64 %low, 1
  br i1 %last, label %ask, label %leave

ask:
  %asleep = load atomic i64, ptr @caller_sleeps seq_cst, align 8
  %wait_for_me = icmp ne i64 %asleep, 0
  br i1 %wait_for_me, label %tell, label %leave

tell:
  call i32 @pthread_mutex_lock(ptr @mutex)
  call i32 @pthread_cond_signal(ptr @done)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %leave

leave:
  br label %look

sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  %counted = atomicrmw add ptr @sleepers, i64 1 seq_cst
  %gate2 = load atomic i64, ptr @gate seq_cst, align 8
  %open2 = call i1 @invites(i64 %gate2, i64 %seen)
  br i1 %open2, label %rest, label %wait

wait:
  call i32 @pthread_cond_wait(ptr @wake, ptr @mutex)
  br label %rest

rest:
  %uncounted = atomicrmw sub ptr @sleepers, i64 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %look
}}

define internal i1 @invites(i64 %gate, i64 %seen) alwaysinline {{
  %places = and i64 %gate, {_JOB - _PLACE}
  %some = icmp ne i64 %places, 0
  %job = lshr i64 %gate, {_JOB.bit_length() - 1}
  %new = icmp ne i64 %job, %seen
  %both = and i1 %some, %new
  ret i1 %both
}}

; -- from Python

define void @mg_pool_set_threads(i64 %n) {{
  store atomic i64 %n, ptr @threads monotonic, align 8
  ret void
}}

define void @mg_pool_reset() {{ ; while no other thread runs: before the first job, and in a child just forked
  call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  call i32 @pthread_cond_init(ptr @wake, ptr null)
  call i32 @pthread_cond_init(ptr @done, ptr null)
  store i64 0, ptr @gate
  store i64 0, ptr @workers
  store i64 0, ptr @sleepers
  store i64 0, ptr @caller_sleeps
  store i64 0, ptr @busy
  ret void
}}
"""
