"""The project's own witness: a server that keeps one record for each cluster, over plain HTTP.

It compares and swaps; what a record means, and for how long, is the members' business. It neither
trusts nor needs a clock.
"""
