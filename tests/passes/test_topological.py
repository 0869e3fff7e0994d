"""Topological order of tasks: groups, ranks, and tasks that wait for each other."""

from minigrad.passes.topological import in_order

BEFORE = {"a1": [], "b1": ["a1"], "a2": ["b1"], "a3": [], "c": ["a3", "b1"]}


def test_ready_tasks_of_one_key_run_together():
    assert list(in_order(BEFORE, lambda task: task[0], {"a": 0, "b": 1, "c": 2}.get)) == [
        ["a1", "a3"], ["b1"], ["a2"], ["c"]]


def test_rank_decides_among_ready_groups():
    assert list(in_order(BEFORE, lambda task: task, ["c", "a3", "b1", "a2", "a1"].index)) == [
        ["a3"], ["a1"], ["b1"], ["c"], ["a2"]]


def test_tasks_that_wait_for_each_other_are_left_out():
    assert list(in_order({1: [], 2: [3], 3: [2]}, lambda task: task, lambda key: key)) == [[1]]
