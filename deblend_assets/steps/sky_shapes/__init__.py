"""What the network for every sky is trained on."""
