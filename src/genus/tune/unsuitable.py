"""Unsuitable: the one error with which a way of using labels may be left out of a comparison."""


class Unsuitable(ValueError):
    """This way of using labels cannot be used with this model, these labels or what is installed; others may be."""
