"""A small survey of known truth: its sky, tables and geometry."""
