"""Sweeps as tasks of a Ray cluster."""
