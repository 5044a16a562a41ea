"""Defences side by side on three axes: accuracy, robustness, use of the content."""
