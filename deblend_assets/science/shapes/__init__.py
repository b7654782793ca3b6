"""The posterior of a galaxy's shape, size and flux, given the stamp in which it is blended: what to estimate
(`quantities`), the network that sees the stamp (`network`), what it is trained on and towards (`light`, `objective`),
and what is said of a galaxy in the end (`posterior`, `flow`)."""
