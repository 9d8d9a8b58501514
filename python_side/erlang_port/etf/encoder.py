"""Values to bytes, by the fastest way that is right.

    value -> the accelerator                      if it is installed, what it knows
          \\-> erlpack_input.to_erlpack -> erlpack    without it, what erlpack writes exactly
          \\-> writer with conversions.convert         all the rest

`to_erlpack` has checked every part of what erlpack gets, see there. What erlpack then refuses (it
raises) is written again, from the value itself, by the exact writer. Without erlpack everything
goes that way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import NoneType

from erlang_port.etf.conversions import OPAQUE, convert
from erlang_port.etf.erlpack_input import (
    VERBATIM_TYPES,
    NotForErlpackError,
    items_to_erlpack,
    kinds_of,
    own_to_erlpack,
    to_erlpack,
)
from erlang_port.etf.formats import encode_json, encode_msgpack
from erlang_port.etf.terms import Atom, FrozenDict, FrozenList
from erlang_port.etf.writer import VERSION, Writer, atom_bytes
from erlang_port.hints import Any, Final, TypeAlias

try:
    import erlang_accelerator as _accelerator
except ImportError:
    _accelerator = None
try:
    import erlpack as _erlpack
    from erlpack._packer import EncodingError as _EncodingError
except ImportError:
    _erlpack = None
    _EncodingError = NotForErlpackError

__all__ = ("Encoder", "encode_json", "encode_msgpack", "has_erlpack", "ways")

Buffer: TypeAlias = "bytes | memoryview"

VERSION_OF_PACKAGE: Final = "0.1.0"
"""The accelerator is used where it was built from the same version."""

NONE_ATOMS: Final = ("none", "nil", "undefined")

_LARGE: Final = 4_096
"""Bytes from which on a binary is handed on as it is. Larger: copies that could be saved. Smaller:
more pieces, each of which costs more than the copy."""

_VERSION: Final = bytes((VERSION,))
_HEAD32 = struct.Struct(">BI")
_FORMAT_LIMIT: Final = 1 << 32

_NO_CODE: Final = frozenset((int, bool, str))
_TEXT: Final = frozenset((str, bytes, Atom))
_RUN_SCALARS: Final = _TEXT | {int, bool, float, NoneType}
_STR_KEYS: Final = frozenset((str,))
_ROWS: Final = frozenset((tuple, dict, list))
_SHORT_ROW: Final = 64
"""Cells up to which a row is packed before it is checked. Larger: long lists of one type, which
are checked faster otherwise, are checked cell by cell. Smaller: long rows go the longer way."""
_NIL: Final = b"s\3nil"
_MAYBE_NOT_FINITE: Final = (b"F\x7f", b"F\xff")
#: What erlpack writes for floats that are not finite, and what is meant.
_NOT_FINITE_TERMS: Final = (
    (b"F\x7f\xf8" + bytes(6), atom_bytes("nan")),
    (b"F\xff\xf8" + bytes(6), atom_bytes("nan")),
    (b"F\x7f\xf0" + bytes(6), atom_bytes("infinity")),
    (b"F\xff\xf0" + bytes(6), atom_bytes("neg_infinity")),
)
_SCALAR_BYTES: Final = 16
"""No number, boolean or None, and no header, takes more bytes in what erlpack writes."""

# What erlpack raises for values of the right types that it cannot write; NotImplementedError only
# when another thread has changed the value since it was checked.
_REFUSED: Final = (OverflowError, UnicodeError, NotImplementedError, _EncodingError)


def _cells(rows: Sequence[Any]) -> Iterator[Any]:
    kinds = kinds_of(rows)
    if dict not in kinds:
        return chain.from_iterable(rows)
    if len(kinds) == 1:
        return chain.from_iterable(map(dict.values, rows))
    return chain.from_iterable(row.values() if type(row) is dict else row for row in rows)


def _has_not_finite(encoded: bytes) -> bool:
    """Whether there is what erlpack writes for a float that is not finite, or text like it."""
    for start in _MAYBE_NOT_FINITE:
        at = encoded.find(start)
        while at >= 0:
            if encoded[at + 2 : at + 3] >= b"\xf0":
                return True
            at = encoded.find(start, at + 2)
    return False


def ways() -> tuple[str, ...]:
    """What can encode here, the fastest first.

    "accelerator" if it is installed and of this very version; "erlpack" where that is
    installed; "python" always.
    """
    compiled = _accelerator is not None and _accelerator.VERSION == VERSION_OF_PACKAGE
    return ("accelerator",) * compiled + ("erlpack",) * has_erlpack() + ("python",)


def has_erlpack() -> bool:
    """Whether erlpack can be used: it is installed, and erlang.Atom is one of its atoms."""
    return _erlpack is not None and issubclass(Atom, _erlpack.Atom)


class Encoder:
    """Encodes values; one for each thread, as erlpack's packer is neither re-entrant nor shared.

    `none` is the atom that None becomes: "none", "nil" or "undefined". `way` is one of `ways()`,
    by default the first.
    """

    __slots__ = ("_compiled", "_encoded_none", "_none", "_pack", "_writer", "way")

    def __init__(self, none: str = "none", way: str | None = None) -> None:
        if none not in NONE_ATOMS:
            raise ValueError(f"none must be one of {', '.join(NONE_ATOMS)}, not {none!r}")
        self._none = Atom(none)
        self._encoded_none = b"s%c%b" % (len(none), none.encode())  # SMALL_ATOM_EXT
        self._writer = Writer(none, convert)
        self._pack: Callable[[Any], bytes] | None = None
        self.way = way = way or ways()[0]
        if way == "erlpack":
            self._pack = _erlpack.ErlangTermEncoder().pack
        self._compiled: Any = None
        if way == "accelerator":
            exact_types = OPAQUE | {FrozenList, FrozenDict}
            self._compiled = _accelerator.Encoder(atom_bytes(none), Atom, exact_types, convert)

    def encode(self, value: Any) -> bytes:
        """The complete term, version byte first.

        Raises TypeError, ValueError or UnicodeEncodeError for what Erlang has no type for, and
        what the value's own encoder raises.
        """
        compiled, pack = self._compiled, self._pack
        if compiled is not None:
            encoded: bytes | None = compiled.encode(value)
            if encoded is not None:
                return encoded
        elif pack is not None:
            try:
                kind = type(value)
                if kind in _NO_CODE:
                    # No code of anybody's runs while these are packed.
                    return pack(value)
                encoded = self._row(value, kind) if kind in _ROWS else None
                if encoded is None:
                    encoded = self._packed(to_erlpack(value, self._none))
            except (NotForErlpackError, OverflowError, UnicodeError, RecursionError):
                encoded = None
            if encoded is not None:
                return encoded
        return b"".join([_VERSION, *self._writer.buffers(value)])

    def _row(self, value: Any, kind: type) -> bytes | None:
        """A short row of scalars, which erlpack packs as it is; None where that may be wrong.

        See `_corrected`: to find None in the bytes is faster than to check each cell.
        """
        if len(value) > _SHORT_ROW:
            return None
        cells = value
        if kind is dict:
            if not _STR_KEYS.issuperset(map(type, value)):
                return None
            cells = value.values()
        kinds = set(map(type, cells))
        if not kinds <= _RUN_SCALARS:
            return None
        pack = self._pack
        if pack is None:
            return None
        try:
            # No code of anybody's runs while scalars are packed, see `_packed`.
            encoded = pack(value)
        except _REFUSED:
            return None
        if len(encoded) >= _FORMAT_LIMIT:
            return None
        # A byte is found faster than a pattern, and most floats have neither.
        if NoneType in kinds or (float in kinds and (0x7F in encoded or 0xFF in encoded)):
            return self._corrected(encoded, (value,))
        return encoded

    def _corrected(self, encoded: bytes, rows: Sequence[Any]) -> bytes | None:
        """What erlpack made of rows, with None and floats as they are meant; None if unsure.

        erlpack writes None as the atom nil, and floats that are not finite as such. Text may
        hold the same bytes: so they are replaced where there are as many as the cells have.
        """
        if (0x7F in encoded or 0xFF in encoded) and _has_not_finite(encoded):
            found = 0
            for bits, term in _NOT_FINITE_TERMS:
                replaced = encoded.replace(bits, term)
                found += (len(encoded) - len(replaced)) // (len(bits) - len(term))
                encoded = replaced
            # What is left is a NaN with other bits, or text.
            if _has_not_finite(encoded) or found != sum(
                [v - v != 0.0 for v in _cells(rows) if type(v) is float]
            ):
                return None
        if _NIL in encoded and self._encoded_none != _NIL:
            if encoded.count(_NIL) != [*_cells(rows)].count(None):
                return None
            encoded = encoded.replace(_NIL, self._encoded_none)
        return encoded

    def _packed(self, data: Any) -> bytes | None:
        """What erlpack makes of a value that has been checked, version byte first; or None."""
        # A finalizer or a signal handler may come here while the packer is at work in this very
        # thread; it then finds no packer and does without.
        pack = self._pack
        if pack is None:
            return None
        self._pack = None
        try:
            encoded = pack(data)
        except _REFUSED:
            return None
        finally:
            self._pack = pack
        # erlpack writes the size of a binary past 4 GiB wrong.
        return encoded if len(encoded) < _FORMAT_LIMIT else None

    def buffers(self, value: Any) -> list[Buffer]:
        """Buffers whose concatenation is the term without version byte.

        A large `bytes` is among them as it is, not copied. (A bytearray or memoryview is copied:
        its owner may change it while the buffers wait to be written.)
        """
        kind = type(value)
        if (kind is bytes or kind is str) and len(value) >= _LARGE:
            return [*self._writer.buffers(value)]
        if kind is bytearray or kind is memoryview:
            return [*self._writer.buffers(value)]
        encoded = self.encode(value)
        # A small copy costs less than a view.
        return [encoded[1:] if len(encoded) < _LARGE else memoryview(encoded)[1:]]

    def holder(self) -> Any:
        """A compiled callable that does what `Stream.hold` does; None without the accelerator."""
        if self._compiled is None:
            return None
        return _accelerator.Holder(self._compiled, self.encode)

    def encode_held(self, held: list[Any], limit: int) -> tuple[bytes, int] | None:
        """A list of as many held values as make more than `limit` bytes, and how many those are.

        As bytes without version byte. None without the accelerator, or where it cannot do it.
        """
        if self._compiled is None:
            return None
        return self._compiled.encode_list(held, limit)  # type: ignore[no-any-return]

    def snapshot(self, value: Any) -> Any:
        """A tuple or dictionary for `encode_rows` that nobody else can change; None if none is.

        A dictionary is the caller's own, and its entries are replaced. Raises what encoders of the
        cells raise.
        """
        if self._pack is None:
            return None
        try:
            if type(value) is dict:
                return own_to_erlpack(value, self._none)
            return tuple(items_to_erlpack(value, self._none))
        except (NotForErlpackError, RecursionError):
            return None

    def encode_rows(self, rows: list[Any], limit: int) -> bytes | None:
        """A list of tuples and dictionaries, as bytes without version byte, all in one.

        The cells of each are scalars, or it is a `snapshot`; keys are str, or it is one.
        None where erlpack may be wrong, or that is more than `limit` bytes.
        """
        encoded = self._packed(rows)
        if encoded is None or len(encoded) > limit:
            return None
        encoded = self._corrected(encoded, rows)
        return None if encoded is None or len(encoded) > limit else encoded[1:]

    def encode_run(
        self, values: Sequence[Any], start: int, limit: int, kinds: set[type] | None = None
    ) -> tuple[bytes, int, Exception | None]:
        """One list of values[start:start + count], as bytes without version byte.

        Returns (bytes, count, error). Takes values until the bytes exceed `limit`, so they are
        more than that by less than the last value; it may stop sooner. With an error,
        values[start + count] is the value that cannot be encoded. The count is 0 only for no values
        or if the first one fails. `kinds` are the types among the values, if they are known.
        """
        chunk = values if start == 0 and type(values) is list else list(values[start:])
        encoded = self._encode_scalars(chunk, limit, kinds or kinds_of(chunk))
        if encoded is not None:
            return encoded, len(chunk), None
        return self._encode_each(chunk, limit)

    def _encode_scalars(self, chunk: list[Any], limit: int, kinds: set[type]) -> bytes | None:
        """The whole chunk, if it holds only scalars and is sure to keep to the limit, else None."""
        if not kinds or not kinds <= _RUN_SCALARS:
            return None
        available = limit - _SCALAR_BYTES * (len(chunk) + 1)
        if available >= 0 and not kinds.isdisjoint(_TEXT):
            # A character takes at most four bytes.
            texts = chunk if kinds <= _TEXT else [v for v in chunk if type(v) in _TEXT]
            available -= 4 * sum(map(len, texts))
        if available < 0:
            return None
        if self._pack is not None:
            encoded = self._packed(
                chunk if kinds <= VERBATIM_TYPES else to_erlpack(chunk, self._none)
            )
            return None if encoded is None else encoded[1:]
        try:
            encoded = b"".join(self._writer.buffers(chunk))
        except ValueError:
            # One of them cannot be sent; which one, is found value by value.
            return None
        # Integers past 64 bits, which erlpack refuses, may be longer than was reckoned with.
        return encoded if len(encoded) <= limit else None

    def _encode_each(self, chunk: list[Any], limit: int) -> tuple[bytes, int, Exception | None]:
        """Value by value, so that the size is known after each, and which one fails."""
        buffers: list[Buffer] = [b""]
        size = count = 0
        error: Exception | None = None
        for value in chunk:
            try:
                encoded = self.buffers(value)
            except Exception as raised:
                # Whatever it is, it ends this value's stream, and only that.
                error = raised
                break
            buffers += encoded
            size += len(encoded[0]) if len(encoded) == 1 else sum(map(len, encoded))
            count += 1
            if size > limit:
                break
        if not count:
            return b"j", 0, error
        buffers[0] = _HEAD32.pack(108, count)
        buffers.append(b"j")
        return b"".join(buffers), count, error
