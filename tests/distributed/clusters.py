"""A cluster of Dask on this machine."""

from contextlib import contextmanager

import pytest


@contextmanager
def cluster(default=True, **options):
    """Return the client of a cluster; its page takes any free port."""
    distributed = pytest.importorskip("dask.distributed", reason="needs the extra dask")
    with (distributed.LocalCluster(**{"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options})
          as local, distributed.Client(local, set_as_default=default) as client):
        yield client
