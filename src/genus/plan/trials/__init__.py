"""Trials: the small runs of a plan, kept by their content, and what runs them."""
