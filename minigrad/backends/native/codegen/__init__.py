"""LLVM IR: expressions, vectors and loops, and the code of fused groups."""
