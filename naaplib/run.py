"""``python -m naaplib.run STEM``: the short name of `naaplib.compendium.run`."""

import sys

from naaplib.compendium.run import main

if __name__ == "__main__":
    sys.exit(main())
