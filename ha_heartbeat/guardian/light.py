"""Light stand-ins for heavy modules of the standard library.

Importing typing, and signal (which brings enum), costs a guardian about 1.8 MiB of resident memory
on Python 3.11, and one guardian lives beside every member. Type checkers see the real ones.
"""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    from contextlib import suppress as suppress
    from typing import NamedTuple as NamedTuple
else:
    try:
        import _signal as signal  # what signal.py wraps in enums
    except ImportError:
        import signal  # noqa: F401

    class suppress:  # noqa: N801
        """contextlib.suppress, which brings functools."""

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            return self

        def __exit__(self, kind, problem, trace):
            return kind is not None and issubclass(kind, self._kinds)

    class _Maker(type):
        """Turns a class body of annotated names into a named tuple, as typing's own does.

        The module of that class must have `from __future__ import annotations`, so that the
        annotations are there as plain text in every version of Python.
        """

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            made = namedtuple(name, fields, module=body["__module__"])
            made.__doc__ = body.get("__doc__")
            return made

    class NamedTuple(metaclass=_Maker):
        """Base for records: fields are the annotated names, in order, without defaults."""
