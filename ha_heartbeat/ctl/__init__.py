"""`hbctl`: asks the members of this machine how things stand, and gives them an operator's orders.

What is imported counts here: a status is asked for a hundred times for each switchover, so each
command loads what it needs itself, and nothing of the member is loaded at all.
"""
