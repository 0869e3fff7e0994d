"""The plan of a program before its sizes are known: the legalised graph, memory, and formulas of sizes."""
