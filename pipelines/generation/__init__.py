"""Pipelines that generate images and speech, and their files."""
