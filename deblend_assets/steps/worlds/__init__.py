"""Steps of the worlds: making their targets, the floor, and the page that compares methods in them."""
