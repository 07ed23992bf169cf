"""Pure tensor functions. Each has a short, readable `reference` and faster paths, chosen in one place (`dispatch`)."""
