"""Recordings: drawing, keeping and measuring them."""
