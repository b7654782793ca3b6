"""Metadetection: a field is sheared, detected and measured again; the response of its catalogue, detection included."""
