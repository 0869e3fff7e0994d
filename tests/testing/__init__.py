"""Tests of the checks of derivatives and batches."""
