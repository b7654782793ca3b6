"""Shear of whole fields: measured field by field, evaluated from what is kept of them."""
