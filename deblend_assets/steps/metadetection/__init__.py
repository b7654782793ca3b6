"""What metadetection of a user's field does: windows, cells, kept parts, files."""
