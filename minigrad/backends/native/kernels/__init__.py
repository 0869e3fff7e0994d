"""Steps of their own, written for any sizes: what each computes, in LLVM IR."""
