"""The run time of machine code: LLVM, its cache, threads, BLAS, tables of steps."""
