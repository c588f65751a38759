"""Exit codes of the command `probebench`."""

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130  # as shells report SIGINT

REGRESSED = 1
"""Of `probebench compare` only, which reports its own failures as `USAGE`."""

SUMMARY = (
    "exit codes: 0 success; 1 partial failure (compare: a regression); 2 usage error or unknown name; 130 interrupted"
)
