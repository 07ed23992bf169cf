"""Models in and out: Hugging Face layout, ARPA."""
