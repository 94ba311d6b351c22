"""Finding images by words: exact search over the vectors, and pages of what was found."""
