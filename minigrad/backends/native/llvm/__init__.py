"""LLVM IR: types and constants, functions and loops."""
