"""Typical programs, each declared once and run by minigrad, JAX and PyTorch in processes of their own."""
