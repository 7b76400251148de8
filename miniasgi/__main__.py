"""`python -m miniasgi`: the same as the command `miniasgi`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
