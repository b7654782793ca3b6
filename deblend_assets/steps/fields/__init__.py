"""Steps from a user's images to a catalogue."""
