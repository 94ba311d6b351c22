"""What labels and vectors tell of each other: a classifier fitted to the annotations, and labels that it doubts."""
