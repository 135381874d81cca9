"""The simulator: the real core on virtual time, with every fault we can think of, from one seed."""
