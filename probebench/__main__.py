"""`python -m probebench` is `probebench`."""

import sys

from probebench.cli.main import main

sys.exit(main())
