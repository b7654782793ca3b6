"""The training loop and its parts: data feeding, augmentation, schedule, several devices, state of an epoch."""
