"""Numbers of slots as browsers know them.

Slots made on demand are younger than the others, so their own numbers would tell which of a rater's
items have a known answer or come again. A handle is such a number enciphered under the site's key,
by a Feistel network of four rounds; Luby and Rackoff (1988), "How to construct pseudorandom
permutations from pseudorandom functions".
"""

from __future__ import annotations

from django.utils.crypto import salted_hmac

HALF_BITS = 26
"""Two halves are 52 bits: JavaScript counts them exactly."""
HALF = (1 << HALF_BITS) - 1
ROUNDS = 4
LARGEST = (1 << 2 * HALF_BITS) - 1


def handle(number: int) -> int:
    """The handle of a slot's number."""
    left, right = number >> HALF_BITS, number & HALF
    for turn in range(ROUNDS):
        left, right = right, left ^ _mix(turn, right)
    return left << HALF_BITS | right


def number(handle: int) -> int:
    """The slot's number behind a handle; any number up to LARGEST is the handle of some slot, be there one or not."""
    left, right = handle >> HALF_BITS, handle & HALF
    for turn in reversed(range(ROUNDS)):
        left, right = right ^ _mix(turn, left), left
    return left << HALF_BITS | right


class SlotConverter:
    """Slots in addresses: the handle outside, the number inside."""

    regex = "[0-9]{1,16}"

    def to_python(self, value: str) -> int:
        """The slot's number.

        :raises ValueError: for what is no handle.
        """
        if int(value) > LARGEST:
            raise ValueError(value)
        return number(int(value))

    def to_url(self, value: int) -> str:
        """The handle."""
        return str(handle(value))


def _mix(turn: int, half: int) -> int:
    digest = salted_hmac("annotate.handles", f"{turn} {half}", algorithm="sha256").digest()
    return int.from_bytes(digest[:4], "big") & HALF
