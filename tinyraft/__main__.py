"""`python -m tinyraft`: the same as the command `tinyraft`."""

from __future__ import annotations

from tinyraft.cli import main

if __name__ == "__main__":
    main()
