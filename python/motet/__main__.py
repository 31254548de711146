"""`python -m motet`: the same command as the console script `motet`."""

import sys

from motet._cli import main

sys.exit(main())
