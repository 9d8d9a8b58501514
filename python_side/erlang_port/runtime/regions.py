"""The interruptible regions of all threads."""

from __future__ import annotations

import weakref
from threading import Lock, local

from erlang_port.runtime.interrupt import InterruptibleRegion, Outcome


class Regions:
    """One for each thread that runs user code, made when it first does."""

    def __init__(self) -> None:
        self._local = local()
        self._lock = Lock()
        #: Of every thread that ran user code and has not ended.
        self._all: weakref.WeakSet[InterruptibleRegion] = weakref.WeakSet()

    def current(self) -> InterruptibleRegion:
        """That of the calling thread."""
        try:
            return self._local.region  # type: ignore[no-any-return]
        except AttributeError:
            region = self._local.region = InterruptibleRegion()
            with self._lock:
                self._all.add(region)
            return region

    def interrupt(self, request: object) -> Outcome:
        """Breaks off whatever code of this request runs, on any thread."""
        with self._lock:
            regions = tuple(self._all)
        return max((region.interrupt(request) for region in regions), default=Outcome.ELSEWHERE)
