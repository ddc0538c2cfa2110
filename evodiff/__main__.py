"""The door of the command line, `evodiff` and `python -m evodiff`: it minds Ctrl-C before all else is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it still starts ends it in a line, with exit code 130."""
    try:
        from evodiff.cli import main as command_line
    except KeyboardInterrupt:
        sys.stderr.write("evodiff: Stopped before it began.\n")
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
