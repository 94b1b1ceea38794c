"""A web page to play with a pipeline: `simvq demo PIPELINE`."""
