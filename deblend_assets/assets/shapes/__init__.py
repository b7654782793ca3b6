"""The shape posterior: its network, its calibration, and what it is judged by."""
