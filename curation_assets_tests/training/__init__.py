"""Tests of the training and evaluation of the embedded model."""
