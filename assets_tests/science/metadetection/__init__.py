"""Tests of metadetection."""
