"""The posterior of a galaxy's shape, size and flux, given the stamp in which it is blended.

The network (`network`) and its training objective (`objective`); the Gaussian posterior that everything uses
(`posterior`), averaged over orientations of the stamp (`orientations`); the heads on the network's map (`heads`,
`classifier`); the calibration with a flow (`calibration`, `flow`); and the trained model (`model`).
"""
