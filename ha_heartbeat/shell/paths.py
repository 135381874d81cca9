"""The paths to the peer: its address, and whatever others of it the operator has named.

It is alive while one of them works. Which of them do is looked at from time to time, since a path
that nobody uses is otherwise found broken on the day on which it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ha_heartbeat.config import Address
from ha_heartbeat.shell.reach import NoProof, Reached, reach
from ha_heartbeat.shell.resolve import Endpoint, Lookup, ResolveError, Resolver

WATCH_S: Final = 5.0
"""The least time from one look at all paths to the next."""


class Paths:
    """All addresses of one peer, the first of which names it; everything in one running loop.

    `on_notice` gets sentences for the log: changes of the DNS, and each path that is lost or works
    again. `refresh_s` and `lookup`: see `Resolver`.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        on_notice: Callable[[str], None],
        refresh_s: float,
        lookup: Lookup,
    ) -> None:
        self._resolvers = {
            address: Resolver(address, on_notice=on_notice, refresh_s=refresh_s, lookup=lookup)
            for address in addresses
        }
        self._on_notice = on_notice
        self._lost: set[Address] = set()
        self._watch: asyncio.Task[None] | None = None

    @property
    def are_many(self) -> bool:
        """Whether there is more than one."""
        return len(self._resolvers) > 1

    async def endpoints(self) -> list[Endpoint]:
        """Where the peer may be, by all addresses that have an answer.

        Raises ResolveError if none of them has.
        """
        found: list[Endpoint] = []
        problem: ResolveError | None = None
        for told in await asyncio.gather(*map(_endpoints_of, self._resolvers.values())):
            if isinstance(told, ResolveError):
                problem = problem or told
            else:
                found += told
        if problem is not None and not found:
            raise problem
        return list(dict.fromkeys(found))

    def refresh(self) -> None:
        """Look names up anew, in the background, if it is time for that."""
        for resolver in self._resolvers.values():
            resolver.refresh()

    def watch(self, in_use: Callable[[], Endpoint | None], timeout_s: float) -> None:
        """Look at all paths from time to time, from now on.

        in_use: the endpoint that the peer has been reached at; without one nothing is looked at,
        since a peer that is down has no paths. timeout_s: what one look may take.
        """
        if self.are_many and self._watch is None:
            self._watch = asyncio.create_task(self._look_again(in_use, timeout_s))

    def close(self) -> None:
        """No more looks and look-ups."""
        if self._watch is not None:
            self._watch.cancel()
        for resolver in self._resolvers.values():
            resolver.close()

    async def _look_again(self, in_use: Callable[[], Endpoint | None], timeout_s: float) -> None:
        while True:
            await asyncio.sleep(max(WATCH_S, timeout_s))
            for address, resolver in self._resolvers.items():
                used = in_use()
                if used is None:
                    break
                reason = await _failure(resolver, used, timeout_s)
                if in_use() is not None:  # else it may have gone down as a whole
                    self._note(address, reason)

    def _note(self, address: Address, reason: str) -> None:
        if reason and address not in self._lost:
            self._lost.add(address)
            self._on_notice(
                f"the path to {address} is lost ({reason}); the peer is still reached on another"
            )
        elif not reason and address in self._lost:
            self._lost.remove(address)
            self._on_notice(f"the path to {address} works again")


async def _endpoints_of(resolver: Resolver) -> list[Endpoint] | ResolveError:
    try:
        return await resolver.endpoints()
    except ResolveError as error:
        return error


async def _failure(resolver: Resolver, used: Endpoint, timeout_s: float) -> str:
    """Why the peer is not reached by this address; "" if it is."""
    told = await _endpoints_of(resolver)
    if isinstance(told, ResolveError):
        return str(told)
    if used in told:
        return ""
    outcome = await reach(told, timeout_s)
    if isinstance(outcome, Reached):
        outcome.sock.close()
        return ""
    return outcome.reason if isinstance(outcome, NoProof) else "it is refused"
