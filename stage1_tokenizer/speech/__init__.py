"""Recordings: their data, networks, losses and tokenizer."""
