"""The code of fused groups: expressions, vectors and loops."""
