"""Numbers that judge: each module compares estimates with truth, im3shape, the Fisher floor or peers."""
