"""Subsets by the model's vectors: which images stand for the others, and how far the others are from them."""
