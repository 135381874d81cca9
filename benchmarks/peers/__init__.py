"""The same faults, payload and recorder over other programs that do a like job, and over ours."""
