"""Makes systemd units out of the options of a member or a witness: texts, and files on request.

Other programs call `command.main` and `command.unit_for`; a person, `python3 -m
ha_heartbeat.install` or `hbctl install`.
"""
