"""A `scan` whose step is native throughout: a loop over the step's table, without Python."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from .cache import object_code
from .jit import load
from .runner import STEPS

# Of each argument block: how many steps, whether the last is the first, the table of the body's steps and its length,
# the body's bases, and how many values of each kind follow.
_HEAD = 8
_FIXED, _SLICED, _CARRIED = 3, 4, 10  # numbers that each value of a kind has

_TEXT = STEPS + f"""
define internal ptr @address(ptr %args, i64 %at, ptr %bases) alwaysinline {{
  %place = getelementptr i64, ptr %args, i64 %at
  %base = load i64, ptr %place
  %slot = getelementptr ptr, ptr %bases, i64 %base
  %start = load ptr, ptr %slot
  %next = getelementptr i64, ptr %place, i64 1
  %offset = load i64, ptr %next
  %found = getelementptr i8, ptr %start, i64 %offset
  ret ptr %found
}}

define internal i64 @number(ptr %args, i64 %at) alwaysinline {{
  %place = getelementptr i64, ptr %args, i64 %at
  %found = load i64, ptr %place
  ret i64 %found
}}

define internal void @put(ptr %own, i64 %slot, ptr %address) alwaysinline {{
  %place = getelementptr ptr, ptr %own, i64 %slot
  store ptr %address, ptr %place
  ret void
}}

define void @mg_scan(ptr %args, ptr %bases) {{
entry:
  %length = call i64 @number(ptr %args, i64 0)
  %reverse = call i64 @number(ptr %args, i64 1)
  %n = call i64 @number(ptr %args, i64 2)
  %table_at = call i64 @number(ptr %args, i64 3)
  %table = inttoptr i64 %table_at to ptr
  %own_at = call i64 @number(ptr %args, i64 4)
  %own = inttoptr i64 %own_at to ptr
  %n_fixed = call i64 @number(ptr %args, i64 5)
  %n_sliced = call i64 @number(ptr %args, i64 6)
  %n_carried = call i64 @number(ptr %args, i64 7)
  %fixed_size = mul i64 %n_fixed, {_FIXED}
  %sliced_from = add i64 %fixed_size, {_HEAD}
  %sliced_size = mul i64 %n_sliced, {_SLICED}
  %carried_from = add i64 %sliced_from, %sliced_size
  %last = sub i64 %length, 1
  br label %fixed_test

fixed_test:
  %f = phi i64 [ 0, %entry ], [ %f_next, %fixed ]
  %f_more = icmp slt i64 %f, %n_fixed
  br i1 %f_more, label %fixed, label %step_test
fixed:
  %f_far = mul i64 %f, {_FIXED}
  %f_at = add i64 %f_far, {_HEAD}
  %f_slot = call i64 @number(ptr %args, i64 %f_at)
  %f_where = add i64 %f_at, 1
  %f_address = call ptr @address(ptr %args, i64 %f_where, ptr %bases)
  call void @put(ptr %own, i64 %f_slot, ptr %f_address)
  %f_next = add i64 %f, 1
  br label %fixed_test

step_test:
  %t = phi i64 [ 0, %fixed_test ], [ %t_next, %run ]
  %t_more = icmp slt i64 %t, %length
  br i1 %t_more, label %step, label %end
step:
  %backwards = icmp ne i64 %reverse, 0
  %from_end = sub i64 %last, %t
  %position = select i1 %backwards, i64 %from_end, i64 %t
  br label %sliced_test

sliced_test:
  %s = phi i64 [ 0, %step ], [ %s_next, %sliced ]
  %s_more = icmp slt i64 %s, %n_sliced
  br i1 %s_more, label %sliced, label %carried_start
sliced:
  %s_far = mul i64 %s, {_SLICED}
  %s_at = add i64 %s_far, %sliced_from
  %s_slot = call i64 @number(ptr %args, i64 %s_at)
  %s_where = add i64 %s_at, 1
  %s_start = call ptr @address(ptr %args, i64 %s_where, ptr %bases)
  %s_stride_at = add i64 %s_at, 3
  %s_stride = call i64 @number(ptr %args, i64 %s_stride_at)
  %s_offset = mul i64 %position, %s_stride
  %s_address = getelementptr i8, ptr %s_start, i64 %s_offset
  call void @put(ptr %own, i64 %s_slot, ptr %s_address)
  %s_next = add i64 %s, 1
  br label %sliced_test

carried_start:
  %first = icmp eq i64 %t, 0
  %ending = icmp eq i64 %t, %last
  %odd = and i64 %t, 1
  %to = mul i64 %odd, 2
  %other = sub i64 2, %to
  br label %carried_test

carried_test:
  %c = phi i64 [ 0, %carried_start ], [ %c_next, %carried ]
  %c_more = icmp slt i64 %c, %n_carried
  br i1 %c_more, label %carried, label %run
carried: ; in slot, out slot, then base and offset of: the start, the end, and two places in turn
  %c_far = mul i64 %c, {_CARRIED}
  %c_at = add i64 %c_far, %carried_from
  %in_slot = call i64 @number(ptr %args, i64 %c_at)
  %out_slot_at = add i64 %c_at, 1
  %out_slot = call i64 @number(ptr %args, i64 %out_slot_at)
  %start_at = add i64 %c_at, 2
  %end_at = add i64 %c_at, 4
  %turns_at = add i64 %c_at, 6
  %read_at = add i64 %turns_at, %other
  %write_at = add i64 %turns_at, %to
  %in_at = select i1 %first, i64 %start_at, i64 %read_at
  %out_at = select i1 %ending, i64 %end_at, i64 %write_at
  %in = call ptr @address(ptr %args, i64 %in_at, ptr %bases)
  %out = call ptr @address(ptr %args, i64 %out_at, ptr %bases)
  call void @put(ptr %own, i64 %in_slot, ptr %in)
  call void @put(ptr %own, i64 %out_slot, ptr %out)
  %c_next = add i64 %c, 1
  br label %carried_test

run:
  call void @steps(ptr %table, i64 %n, ptr %own)
  %t_next = add i64 %t, 1
  br label %step_test

end:
  ret void
}}
"""

Place = tuple[int, int]  # a base, and bytes from there


@functools.cache
def step() -> int:
    """Return the address of the step that runs a scan."""
    library = load([object_code(_TEXT)])
    library.keep()
    return library.address("mg_scan")


def arguments(length: int, reverse: bool, table: tuple[int, int], own: int, fixed: Sequence[tuple[int, Place]],
              sliced: Sequence[tuple[int, Place, int]],
              carried: Sequence[tuple[int, int, Place, Place, Sequence[Place]]]) -> list[int]:
    """Return the argument block of a scan.

    Parameters
    ----------
    table : (int, int)
        Address and length of the body's table of steps.
    own : int
        Address of the body's bases.
    fixed : sequence of (slot, place)
        What is the same in each step.
    sliced : sequence of (slot, place, stride)
        What has one part for each step, read or written.
    carried : sequence of (slot read, slot written, start, end, rooms)
        What goes from step to step; it takes turns between two rooms.
    """
    block = [length, reverse, table[1], table[0], own, len(fixed), len(sliced), len(carried)]
    for slot, place in fixed:
        block += [slot, *place]
    for slot, place, stride in sliced:
        block += [slot, *place, stride]
    for read, written, start, end, (room, other) in carried:
        block += [read, written, *start, *end, *room, *other]
    return block
