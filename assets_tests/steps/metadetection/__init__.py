"""Tests of metadetection of a user's field."""
