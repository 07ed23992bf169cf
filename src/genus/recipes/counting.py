"""Counting: the n-gram."""
