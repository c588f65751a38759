"""Results as data: run records, baselines, verdicts, rankings, and what follows from them. No torch."""
