"""The number of CPUs that this process may use."""

import functools
import os
import re
from pathlib import Path

_UNLIMITED = 2**20


@functools.cache
def usable_cpus() -> int:
    """Return the number of CPUs that this process may use: its own, within its container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, cgroup_cpus(Path("/"))))


def cgroup_cpus(root: Path) -> int:
    """Return the CPUs within the quota of Linux's control groups, or a large number without a quota.

    `root` is the root of the file system. The smallest quota of the process's group and of the groups above it counts,
    and 1.5 CPUs count as 2.
    """
    top = root / "sys/fs/cgroup"
    places = [top, top / "cpu"]
    try:
        groups = (root / "proc/self/cgroup").read_text()
    except OSError:
        groups = ""
    for controllers, path in re.findall(r"^\d+:([^:]*):/(.+)$", groups, re.MULTILINE):
        base = top if not controllers else top / "cpu" if "cpu" in controllers.split(",") else None
        if base is not None:
            places += [base / path, *(p for p in (base / path).parents if base in p.parents)]
    return min(map(_quota, places))


def _quota(place: Path) -> int:
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
        try:
            quota, period = " ".join((place / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return max(1, -(-int(quota) // int(period)))
    return _UNLIMITED
