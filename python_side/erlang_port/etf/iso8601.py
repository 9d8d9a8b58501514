"""Times as text, where Python has no `isoformat` for them."""

from __future__ import annotations

__all__ = ("duration", "shortened")


def duration(ticks: int, per_second: int = 1) -> str:
    """The ISO 8601 duration of `ticks`, such as ``P1DT2H0.5S``.

    Days, hours, minutes and seconds, each only if it is there, and ``PT0S`` for none at all. The
    sign stands in front, for the whole. Days have 24 hours; months and years are not used, as
    they have no fixed length.
    """
    seconds, rest = divmod(abs(ticks), per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours}H" if hours else ""
    text += f"{minutes}M" if minutes else ""
    if rest:
        width = len(str(per_second)) - 1
        text += f"{seconds}.{rest:0{width}d}".rstrip("0") + "S"
    elif seconds or not (days or text):
        text += f"{seconds}S"
    return ("-" if ticks < 0 else "") + "P" + (f"{days}D" if days else "") + (text and "T" + text)


def shortened(text: str) -> str:
    """A time with as many digits after the point as `isoformat` gives: none, or six if they do.

    Smaller units than Python has take nine, twelve, fifteen or eighteen.
    """
    head, _, digits = text.partition(".")
    digits = digits.rstrip("0")
    if not digits:
        return head
    return f"{head}.{digits.ljust(max(6, -(-len(digits) // 3) * 3), '0')}"
