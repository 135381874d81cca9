"""Why a member cannot start. Each kind derives from StartError, where it is raised."""

from __future__ import annotations


class StartError(Exception):
    """The member cannot start; its text is one sentence for the operator.

    The sentence names the thing, says what is wrong with it and what to do, and ends without a
    full stop or newline. The command line prints it as `ha-heartbeat: <sentence>` and exits with 1.
    """
