"""What is known of a program before its sizes are: its graph made ready, where values lie, its sizes' formulas."""
