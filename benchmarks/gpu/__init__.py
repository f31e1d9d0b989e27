"""Every check and measurement that needs a CUDA device, in one call: see `__main__`."""
