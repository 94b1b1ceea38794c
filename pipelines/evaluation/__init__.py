"""Scores: reconstructions and samples against real items, and the classifiers whose features compare them."""
