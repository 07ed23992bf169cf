"""Genus: from a folder of text to a trained, measured, exported model."""

__version__ = "0.1.0.dev0"
