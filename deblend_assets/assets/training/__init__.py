"""The three stages, by our recipe and by the report's."""
