"""Sweeps in the worker processes of pytest-xdist."""
