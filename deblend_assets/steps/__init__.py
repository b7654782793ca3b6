"""What an asset does, apart from its declaration.

Settings, science and stores come in; numbers, figures and files go out. Steps do not import Dagster: `assets/`
declares what runs them, and turns their numbers and figures into metadata.
"""
