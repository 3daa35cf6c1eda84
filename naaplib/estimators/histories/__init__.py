"""Feature histories: last layers trained again, and ensembles of them."""
