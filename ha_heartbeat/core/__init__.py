"""The core decides and does nothing: no input or output, no clock, no chance of its own."""
