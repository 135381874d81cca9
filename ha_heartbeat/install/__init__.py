"""Makes systemd units out of the options of a member or a witness: texts, and files on request.

`command.main` is what another program calls; `python3 -m ha_heartbeat.install` is for a person.
"""
