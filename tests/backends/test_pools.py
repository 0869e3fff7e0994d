"""Bounded dicts drop their oldest entries; each key has one pool."""

import threading
from collections import deque

from minigrad.backends.pools import Bounded, Pools


def test_the_oldest_entry_makes_room():
    kept = Bounded(2)
    assert [kept.keep(k, k * 10) for k in (1, 2, 1, 3)] == [10, 20, 10, 30]
    assert kept == {2: 20, 3: 30}


def test_a_pool_is_made_once_for_each_key():
    pools = Pools(2)
    pool = pools["a"]
    assert pool == deque()
    assert pools["a"] is pool
    assert pools["b"] is not pool
    assert "c" not in pools
    pools["c"].append(1)
    assert list(pools) == ["b", "c"]
    pools.clear()
    assert not pools


def test_what_makes_room_is_released():
    released = []
    pools = Pools(2, released.append)
    for key in "abcd":
        pools[key].extend([key, key.upper()])
    assert sorted(released) == ["A", "B", "a", "b"]
    assert list(pools) == ["c", "d"]


def test_threads_share_the_pools():
    pools, seen = Pools(3), set()

    def work(k):
        for i in range(300):
            pool = pools[(i + k) % 5]
            pool.append(k)
            seen.add(type(pool))
            if i % 50 == 0:
                pools.clear()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(pools) <= 3
    assert seen == {deque}
