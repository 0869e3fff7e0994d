"""How LLVM IR is written: expressions, vectors and loops, and the code of fused groups."""
