"""Modalities: a raw thing (text today) to symbols and back."""
