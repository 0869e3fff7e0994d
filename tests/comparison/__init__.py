"""Tests of the comparison of the loop with the batch."""
