"""Steps of `deblend_assets measure` and `export`."""
