"""Prepare a data set, with the original's flags. The same as `last data prepare`; one store serves every protocol."""

import sys

from last.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
