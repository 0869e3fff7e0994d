"""Machine code that calls the thread pool, and counts and checks the calls."""

import ctypes

from minigrad.backends.native.runtime import jit, threads
from tests.backends.native.machine_code import compile_ir

# The context of @count is a table: for each item, how often it was done, and by which thread. That of @claim is one
# word for each thread, which must be free when a block of that thread begins, the number of clashes and the number of
# blocks. That of @nest is for each item a context of @count.
CODE = """
declare void @mg_parallel(ptr, ptr, i64, i64)

define void @count(ptr %table, i64 %item, i64 %thread) {
  %at = getelementptr [2 x i64], ptr %table, i64 %item
  %done = load i64, ptr %at
  %more = add i64 %done, 1
  store i64 %more, ptr %at
  %who = getelementptr i64, ptr %at, i64 1
  store i64 %thread, ptr %who
  ret void
}

define void @claim(ptr %words, i64 %item, i64 %thread) {
entry:
  %mine = getelementptr i64, ptr %words, i64 %thread
  %clash = atomicrmw xchg ptr %mine, i64 1 seq_cst
  %clashes = getelementptr i64, ptr %words, i64 1024
  %x = atomicrmw add ptr %clashes, i64 %clash seq_cst
  %blocks = getelementptr i64, ptr %words, i64 1025
  %y = atomicrmw add ptr %blocks, i64 1 seq_cst
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %j = add i64 %i, 1
  store volatile i64 1, ptr %mine
  %go = icmp slt i64 %j, 300
  br i1 %go, label %loop, label %out

out:
  store atomic i64 0, ptr %mine seq_cst, align 8
  ret void
}

define void @nest(ptr %tables, i64 %item, i64 %thread) {
  %table = getelementptr [8 x [2 x i64]], ptr %tables, i64 %item
  call void @mg_parallel(ptr @count, ptr %table, i64 8, i64 1024)
  ret void
}

define void @counting(ptr %table, i64 %items, i64 %times) {
  call void @repeat(ptr @count, ptr %table, i64 %items, i64 %times)
  ret void
}

define void @claiming(ptr %words, i64 %items, i64 %times) {
  call void @repeat(ptr @claim, ptr %words, i64 %items, i64 %times)
  ret void
}

define void @nesting(ptr %tables, i64 %items, i64 %times) {
  call void @repeat(ptr @nest, ptr %tables, i64 %items, i64 %times)
  ret void
}

define internal void @repeat(ptr %block, ptr %context, i64 %items, i64 %times) {
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  call void @mg_parallel(ptr %block, ptr %context, i64 %items, i64 1024)
  %j = add i64 %i, 1
  %go = icmp slt i64 %j, %times
  br i1 %go, label %loop, label %out

out:
  ret void
}

define void @upto(ptr %table, i64 %items, i64 %threads) {
  call void @mg_parallel(ptr @claim, ptr %table, i64 %items, i64 %threads)
  ret void
}
"""


class Code:
    """The functions above: ``f(array, items, times)``."""

    def __init__(self, symbols=None):
        self.library = jit.load([compile_ir(CODE)], symbols or threads.symbols())
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        for name in ("counting", "claiming", "nesting", "upto"):
            setattr(self, name, self.of_array(kind(self.library.address(name))))

    @staticmethod
    def of_array(function):
        return lambda array, items, times: function(array.ctypes.data, items, times)
