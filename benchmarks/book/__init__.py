"""The measurements that the explanation pages read; each module writes one file of ``results/book``."""
