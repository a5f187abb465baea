"""The transaction counter in a DUKPT key serial number: which values a device uses, and which comes next.

A counter and the limits of its standard go in. Called by `dukpt_tdes` (21 bits, at most 10 ones) and `dukpt_aes` (32
bits, at most 16 ones): a counter with more ones would take more derivations than a device is to make, so it is left
out.
"""

from __future__ import annotations

import msgspec


class CounterLimits(msgspec.Struct, frozen=True):
    """`last` is the greatest counter, `ones` the most one bits that a counter has."""

    last: int
    ones: int

    def check(self, counter: int) -> int:
        """Return the counter.

        Raises:
            ValueError: no device uses it.
        """
        if counter == 0:
            raise ValueError("the counter of the key serial number is zero")
        if counter > self.last:
            raise ValueError("the counter of the key serial number is exhausted")
        if counter.bit_count() > self.ones:
            raise ValueError(f"the counter of the key serial number has more than {self.ones} one bits")
        return counter

    def after(self, counter: int) -> int:
        """Return the next counter that a device uses; zero is where a new device starts.

        Raises:
            ValueError: there is none: the device needs a new initial key.
        """
        counter += 1
        while counter.bit_count() > self.ones:
            counter += counter & -counter
        if counter > self.last:
            raise ValueError("the counter of the key serial number is exhausted")
        return counter
