"""Guide: what the data and the labels suggest to compare, and why, before anything is trained."""
