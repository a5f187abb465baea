"""`python -m tests.fuzz [NAME …] [--seconds N] [--seed N]`."""

from __future__ import annotations

from tests.fuzz.driver import main
from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    main(TARGETS)
