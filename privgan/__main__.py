"""``python -m privgan``: private reports of a table, and a table from private reports."""

import sys

from privgan.tables.command import main

if __name__ == "__main__":
    sys.exit(main())
