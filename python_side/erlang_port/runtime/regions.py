"""The interruptible regions of all threads."""

from __future__ import annotations

import itertools
import weakref
from threading import local

from erlang_port.runtime.interrupt import InterruptibleRegion, Outcome


class Regions:
    """One for each thread that runs user code, made when it first does."""

    def __init__(self) -> None:
        self._local = local()
        self._numbers = itertools.count()
        #: Of every thread that ran user code and has not ended. No WeakSet, which may change while
        #: it is copied where threads run at the same time.
        self._all: dict[int, weakref.ref[InterruptibleRegion]] = {}

    def current(self) -> InterruptibleRegion:
        """That of the calling thread."""
        try:
            return self._local.region  # type: ignore[no-any-return]
        except AttributeError:
            region = self._local.region = InterruptibleRegion()
            number, regions = next(self._numbers), self._all
            regions[number] = weakref.ref(region, lambda _: regions.pop(number, None))
            return region

    def running(self) -> dict[int, object]:
        """The requests whose code runs, by thread."""
        return {
            region.thread: region.request
            for found in list(self._all.values())
            if (region := found()) is not None and region.request is not None
        }

    def interrupt(self, request: object) -> Outcome:
        """Breaks off whatever code of this request runs, on any thread."""
        outcomes = [
            region.interrupt(request)
            for found in list(self._all.values())
            if (region := found()) is not None
        ]
        return max(outcomes, default=Outcome.ELSEWHERE)
