"""Kernels for any sizes, in LLVM IR, each a step of its own."""
