"""Detection: finds sources in images, and says which light each detection is of."""
