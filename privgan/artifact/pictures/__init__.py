"""What the notebooks draw: a file a notebook, a function a figure, from numbers to a `Figure`."""
