"""Accuracy of estimates: each module compares them with the truth, im3shape, the Fisher floor or peers."""
