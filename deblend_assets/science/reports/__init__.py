"""HTML pages, one module a page, and their figures."""
