"""Steps of the normalization (Eq. 9 of the report)."""
