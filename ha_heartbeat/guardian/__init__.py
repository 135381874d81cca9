"""The guardian: the small process between a member and its command.

It starts each run, stops the whole tree of processes when its member, its member's death or the
lease says so, and holds the member's listening port until nothing of that tree is left. So a
refused connection proves that the command is gone. It decides nothing else, knows no peer, and
imports nothing from outside this package, so that it stays small and has little to break.
"""
