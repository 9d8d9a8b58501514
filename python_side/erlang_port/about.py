"""What a request is: its names and the metadata that came with it, for logs and traces."""

from __future__ import annotations

import sys

from erlang_port.current import running
from erlang_port.etf import decoder
from erlang_port.etf.terms import Reference
from erlang_port.hints import Any
from erlang_port.wire import frames

#: What is the same for all requests of this worker: its pool and its pid.
_worker: dict[str, Any] = {}

#: Between the length and the numbers of a reference of this node: its name and its creation.
_node = b""


def open_about(settings: dict[str, Any]) -> None:
    """This process is the worker that these settings are for."""
    global _node
    _worker.update(pool=settings.get("pool"), worker=settings.get("worker"))
    _node = bytes(settings.get("node") or b"")


def worker() -> dict[str, Any]:
    """The pool and the worker."""
    return dict(_worker)


def metadata(request: Any) -> dict[str, Any]:
    """The option `metadata` of a request."""
    given = frames.extras_of(getattr(request, "about", b"")).metadata
    return dict(decoder.decode(given)) if given else {}


def describe(request: Any) -> dict[str, Any] | None:
    """Module, function and reference of a request, as far as it has them."""
    about = getattr(request, "about", None)
    if about is None:
        return None
    found: dict[str, Any] = {"module": "__main__", "function": "exec"}
    if about:
        target = frames.read_target(about, 0)
        names = target.first, target.second
        if target.kind == frames.EXPRESSION:
            names = "__main__", target.first[:100]
        elif target.kind == frames.METHOD:
            names = "", target.second
        found = {"module": names[0], "function": names[1]}
    reference = reference_of(request)
    if reference is not None:
        found["reference"] = reference
    return found


def reference_of(request: Any) -> Reference | None:
    """The reference that the node knows a request by."""
    prefix = getattr(request, "prefix", None)
    if prefix:
        return decoder.decode(prefix + b"j")[1]  # type: ignore[no-any-return]
    address = request.address
    if not _node or address[:1] != b"Z":
        return None
    count = (len(address) - 1) // 4
    return decoder.decode(b"\x83Z" + count.to_bytes(2, "big") + _node + address[1:])  # type: ignore[no-any-return]


def running_about() -> dict[str, Any]:
    """All of it, for the code that calls this."""
    request = running()
    found = {**metadata(request), **_worker}
    described = describe(request)
    if described is not None:
        found["request"] = described
    return found


def attach_trace(request: Any) -> None:
    """Makes a trace context of the metadata the current one of opentelemetry, if it is there.

    Called in the request's own context, which ends with it.
    """
    given = metadata(request)
    if "traceparent" not in given:
        return
    try:
        from opentelemetry import context, propagate  # type: ignore[import-not-found]
    except ImportError:
        # Nor is it searched for again: None there is an ImportError at once.
        sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]
        return
    carrier = {str(key): str(value) for key, value in given.items()}
    context.attach(propagate.extract(carrier))
