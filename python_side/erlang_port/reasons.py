"""Python exceptions as the reasons that Erlang gets."""

from __future__ import annotations


def message_of(error: BaseException) -> str:
    """``str(error)``, or what can be said where that itself fails."""
    try:
        text = str(error)
    except BaseException as broken:
        text = f"<{type(error).__name__} whose str() raised {type(broken).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of the port program."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    try:
        # Which takes long to import; and nothing can be while no file can be opened.
        from traceback import TracebackException
    except (ImportError, OSError):
        return f"{type(error).__name__}: {message_of(error)}\n"
    shown = TracebackException(type(error), error, frames)
    return "".join(shown.format()).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_ours(filename: str) -> bool:
    return filename.startswith(_DIRECTORY)


_DIRECTORY = __file__[: -len("reasons.py")]


def reason(error: BaseException, with_traceback: bool) -> tuple[str, ...]:
    """``{Class, Message}`` or ``{Class, Message, Traceback}``, all binaries.

    The node makes the class an atom where it knows it.
    """
    if with_traceback:
        return type(error).__name__, message_of(error), traceback_of(error)
    return type(error).__name__, message_of(error)
