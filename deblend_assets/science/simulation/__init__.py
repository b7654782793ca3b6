"""Galaxy populations, surveys, scenes and how they are rendered."""
