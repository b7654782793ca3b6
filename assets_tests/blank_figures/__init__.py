"""Figures that are not drawn, for processes whose figures nobody looks at."""
