"""The primitives, one file per family of adjoint pairs."""
