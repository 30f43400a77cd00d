"""Train LAST; `python scripts/train.py --help` lists the flags. The same as `last train`."""

import sys

from last.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
