"""Used by both stages, knows neither."""
