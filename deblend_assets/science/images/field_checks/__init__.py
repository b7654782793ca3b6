"""Checks of a whole field: do its stars, noise and counts agree with what was given for it?"""
