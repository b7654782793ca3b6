"""Redshift posteriors from stamps, and a baseline on colours."""
