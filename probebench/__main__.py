"""`python -m probebench` is `probebench`."""

import sys

from probebench.cli import main

sys.exit(main())
