"""Files that start Triton, read format by format into images, commands and containers."""
