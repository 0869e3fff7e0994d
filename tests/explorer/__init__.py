"""Tests of the explorer; those of the page run in Chromium."""
