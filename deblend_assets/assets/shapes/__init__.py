"""The shape posterior: its network, its calibration, and its evaluation."""
