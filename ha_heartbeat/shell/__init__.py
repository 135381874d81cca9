"""The shell does what the core asks for, and decides nothing."""
