"""What a model learns to do: an objective makes batches from rows of tokens and gives their loss as a sum and a count."""
