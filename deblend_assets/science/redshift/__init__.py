"""Redshift posteriors from the same network features, and their peer on colours."""
