"""Where sweeps run, if not in pytest's own processes."""
