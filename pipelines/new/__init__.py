"""A recipe for one's own data: `simvq new DATA`."""
