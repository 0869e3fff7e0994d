"""How many CPUs this process may use."""

import functools
import os
import re
from pathlib import Path

_UNLIMITED = 2**20


@functools.cache
def usable_cpus() -> int:
    """Return how many CPUs this process may use: those it is bound to, and what its container's quota is enough for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, cgroup_cpus(Path("/"))))


def cgroup_cpus(root: Path) -> int:
    """Return for how many CPUs the quota is enough that Linux's control groups set, a great number without one.

    The file system lies at `root`. The quota that counts is the smallest of the process's group and of those above
    it; a quota of 1.5 CPUs is taken for 2.
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
