"""Plans as machine code: kernels generated as LLVM IR, compiled through llvmlite."""
