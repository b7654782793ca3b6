"""One function a figure; each returns a `matplotlib.figure.Figure`, which `style.to_png` turns into bytes."""
