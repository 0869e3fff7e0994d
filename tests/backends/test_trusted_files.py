"""Trust in directories and files: owners, modes, links, and sizes."""

import os
import stat

import pytest

from minigrad.backends import trusted_files

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX owners")


@posix
def test_group_write_counts_unless_the_group_is_the_user_alone(tmp_path):
    status = list(os.stat(tmp_path))
    for uid, gid, may in ((1000, 1000, False), (1000, 100, True)):
        status[:1], status[4:6] = [stat.S_IFDIR | 0o775], [uid, gid]
        assert trusted_files._others_may_write(os.stat_result(status)) == may


@posix
def test_a_directory_that_others_may_write_to_is_distrusted(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    assert trusted_files.distrust(inner) is None
    assert trusted_files.distrust(inner / "missing") is None
    inner.chmod(0o777)
    assert trusted_files.distrust(inner) == f"others may write to {inner}"
    assert trusted_files.distrust(inner / "missing") == f"others may write to {inner}"
    inner.chmod(0o1777)  # sticky: protects what others own below it, but not the directory itself
    assert trusted_files.distrust(inner) == f"others may write to {inner}"
    assert trusted_files.distrust(inner / "missing") is None


@posix
def test_regular_files_of_the_user_are_read_up_to_a_limit(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"abc")
    path.chmod(0o600)
    link.symlink_to(path)
    assert trusted_files.read(path, 3) == b"abc"
    assert trusted_files.read(path, 2) is None
    with pytest.raises(OSError, match="link"):
        trusted_files.read(link, 3)
    path.chmod(0o666)
    assert trusted_files.read(path, 3) is None
    os.mkfifo(tmp_path / "fifo")
    assert trusted_files.read(tmp_path / "fifo", 3) is None


@posix
def test_missing_parents_are_made_for_the_user_alone(tmp_path):
    path = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        trusted_files.make_directory(path)
        trusted_files.make_directory(path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o700] * 2
