"""`python -m simulators.load CONFIG.json`: a configuration goes in, the result comes out as one JSON line."""

from __future__ import annotations

import sys

from simulators.load.generator import main

main(sys.argv[1:])
