"""The number of CPUs that this process may use."""

import functools
import os
import re

_UNLIMITED = 2**20


@functools.cache
def usable_cpus() -> int:
    """Return the number of CPUs that this process may use: its own, within its container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, cgroup_cpus("/")))


def cgroup_cpus(root: str | os.PathLike[str]) -> int:
    """Return the CPUs within the quota of Linux's control groups, or a large number without a quota.

    `root` is the root of the file system. The smallest quota of the process's group and of the groups above it counts,
    and 1.5 CPUs count as 2.
    """
    top = os.path.join(root, "sys/fs/cgroup")
    places = [top, os.path.join(top, "cpu")]
    try:
        groups = _text(os.path.join(root, "proc/self/cgroup"))
    except OSError:
        groups = ""
    for controllers, path in re.findall(r"^\d+:([^:]*):/(.+)$", groups, re.MULTILINE):
        base = top if not controllers else os.path.join(top, "cpu") if "cpu" in controllers.split(",") else None
        if base is not None:
            parts = path.split("/")
            places += [os.path.join(base, *parts[:k]) for k in range(1, len(parts) + 1)]
    return min(map(_quota, places))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _quota(place: str) -> int:
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = " ".join(_text(os.path.join(place, file)) for file in files).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return max(1, -(-int(quota) // int(period)))
    return _UNLIMITED
