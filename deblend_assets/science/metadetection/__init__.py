"""Metadetection: a field sheared a little, detected and measured again; the response of a catalogue, detection included."""
