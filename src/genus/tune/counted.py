"""Counted: a number and its noun, as messages say them."""


def counted(number: int, one: str, many: str = "") -> str:
    """ "1 row", "1,200 rows". `many`: the plural, where it is not that with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
