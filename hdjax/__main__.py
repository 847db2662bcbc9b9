"""`python -m hdjax`."""

import sys

from hdjax.cli import main

sys.exit(main())
