"""Work that takes too long for the event loop, done beside it, and done in any case.

A host that is out of processes gives no thread either (pthread_create(3), EAGAIN). What has to be
done just then, as killing the processes that use up all the others, cannot wait for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def aside(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in a thread of the executor; where it cannot have one, at once, and the loop waits.

    The call must do no harm when it is done twice: the executor may find it in its queue later.
    """
    assert not kwargs, "an executor takes positional arguments only"
    try:
        future = asyncio.get_running_loop().run_in_executor(executor, call, *args)
    except RuntimeError:  # CPython's "can't start new thread"
        return call(*args, **kwargs)
    return await future
