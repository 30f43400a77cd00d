"""Prepare a data set, with the original's flags: the same as `last data prepare`.

One store serves every protocol. `--mib FOLDER` also writes what the original's script wrote, such as `train_joint.npy`.
"""

import sys

from last.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
