"""The election for a program that does the work itself: no command, no guardian, a term instead.

What is for use from outside is in `ha_heartbeat` itself: `elected`, `PeriodicJobs`, `Term`.
"""
