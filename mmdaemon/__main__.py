"""`python -m mmdaemon` is the `mmdaemon` command."""

import sys

from mmdaemon.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
