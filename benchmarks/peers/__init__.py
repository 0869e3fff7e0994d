"""minigrad beside its peers: one group of programs per file, ``python -m benchmarks peers.NAME``."""
