"""Tests, path for path beside what they test."""
