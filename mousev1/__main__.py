"""``python -m mousev1``: the same as the command ``mousev1``."""

import sys

from mousev1.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
