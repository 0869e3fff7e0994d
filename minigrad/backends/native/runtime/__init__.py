"""What machine code runs on: LLVM, its cache, threads, BLAS, tables of steps."""
