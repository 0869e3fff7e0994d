"""The number of CPUs within the quotas of Linux's control groups."""

import pytest

from minigrad.backends.native.runtime import cpus

pytest.importorskip("llvmlite")

V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/cpu/"


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(("files", "n"), [
    ({}, None),
    ({V2 + "cpu.max": "max 100000\n"}, None),
    ({V2 + "cpu.max": "200000 100000\n"}, 2),
    ({V2 + "cpu.max": "150000 100000\n"}, 2),
    ({V2 + "cpu.max": "1000 100000\n"}, 1),
    ({V2 + "cpu.max": "rubbish"}, None),
    ({"proc/self/cgroup": "0::/a/b\n", V2 + "a/b/cpu.max": "max 100000\n", V2 + "a/cpu.max": "300000 100000\n"}, 3),
    ({"proc/self/cgroup": "0::/../elsewhere\n", V2 + "cpu.max": "400000 100000\n"}, 4),
    ({V1 + "cpu.cfs_quota_us": "-1\n", V1 + "cpu.cfs_period_us": "100000\n"}, None),
    ({V1 + "cpu.cfs_quota_us": "500000\n", V1 + "cpu.cfs_period_us": "100000\n"}, 5),
    ({"proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/a\n", V1 + "a/cpu.cfs_quota_us": "100000\n",
      V1 + "a/cpu.cfs_period_us": "50000\n", V1 + "m/cpu.cfs_quota_us": "1", V1 + "m/cpu.cfs_period_us": "1"}, 2)])
def test_a_containers_quota(tmp_path, files, n):
    write(tmp_path, files)
    found = cpus.cgroup_cpus(tmp_path)
    assert found == n if n else found > 1000
