"""Evidence of death: what was seen of the peer, and whether it proves anything (DESIGN 3).

Here is decided when a silent peer may be taken for dead, and when a refused connection may. Each
function answers one such question and says why in its docstring.
"""

from __future__ import annotations

from ha_heartbeat.core.state import State
from ha_heartbeat.core.types import Phase, TakeoverPolicy
from ha_heartbeat.core.votes import is_fresh, kept_s, relied_on_s, shorter_lease_s


def refusal_objection(s: State, now: float) -> str:
    """Why a refusal of the latest attempt proves nothing; "" if it proves that the tree is gone.

    A refused connection proves the death of the whole tree because every process of it holds the
    port (DESIGN 4), unless somebody else refused in the host's name. It is about the incarnation
    that was known when the question was sent, so it is void if anything was heard since, or if it
    is older than a lease: a member paused in between would act on the past.
    """
    if s.settings.distrust_refused:
        return "a refusal is treated as silence (--distrust-refused)"
    if s.heard_at >= s.link_since:
        return "it was heard after the question was sent"
    if now - s.link_since > relied_on_s(shorter_lease_s(s)):
        return "the answer is older than the lease"
    if s.inbound and now - s.heard_at < kept_s(s.settings.lease_s):
        return "its own connection to this member is still open"
    return ""


def gives_preferred_peer_time(s: State) -> bool:
    """Whether a refused start still waits: a member with --fallback lets its peer appear first.

    Only at the start. Later the refusal is the end of a worker that was there.
    """
    return s.phase is Phase.LOOKING and s.fallback and s.refused_checks < s.settings.check_count


def silent_since(s: State) -> float:
    """When the present silence began for this member: when last heard, or when it began to look."""
    return max(s.heard_at, s.looking_since) if s.phase is Phase.LOOKING else s.heard_at


def silence_due_at(s: State) -> float:
    """When silence has lasted long enough to be judged: a lease, and every promise run out.

    The lease is the longer of the two: the worker's command lives for as long as its own. A member
    that has just started abstains for as long, because it remembers no promise.
    """
    lease_s = max(s.settings.lease_s, s.peer_lease_s)
    return max(silent_since(s) + kept_s(lease_s), s.promised_until, s.abstain_until)


def is_silent(s: State, now: float) -> bool:
    """Whether the peer has been silent for a lease *and* was asked often enough meanwhile.

    The second half is for a member that was itself paused: its clock says that it has heard
    nothing, but it has not asked either. Where there is no peer, nobody else can be heard.
    """
    if not s.settings.peer:
        return True
    return s.unanswered >= s.settings.check_count and now >= silence_due_at(s)


def acts_on_silence(s: State) -> bool:
    """Whether silence alone is enough: the original's way, and both run while a partition lasts.

    Never with a witness, whose vote decides.
    """
    return s.settings.takeover is TakeoverPolicy.SILENCE and not s.settings.has_witness


def may_have_been_replaced(s: State, now: float) -> bool:
    """Whether a worker that could not keep its lease must ask before it goes on.

    It was paused or starved for longer than its lease, or lost its majority of votes. Under
    `--takeover proof` without a witness nobody can have taken over: there was nothing but silence.
    """
    return now > s.lease_until and (s.settings.has_witness or acts_on_silence(s))


def epochs_unknown(s: State, proved_at: float, now: float) -> bool:
    """Whether the one proved dead at `proved_at` may have had terms that are not known here.

    Only with a witness, which may have voted for it: for a member that heard nothing of us for a
    lease, so not for one that has heard us within one. The witness is asked first, once; if it does
    not answer, nobody can know.
    """
    if not s.settings.has_witness or is_fresh(s, s.understood_at, now):
        return False
    return s.looked_at < proved_at
