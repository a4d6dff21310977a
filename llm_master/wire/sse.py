"""
Server-sent events, read incrementally: bytes in, data payloads out.

Follows the WHATWG event-stream grammar (https://html.spec.whatwg.org/multipage/server-sent-events.html): lines end in
LF, CR or CRLF, a byte order mark may come first, comments and unknown fields are skipped, several ``data`` lines of
one event are joined by LF.
"""

from __future__ import annotations

import msgspec

from llm_master.errors import ResponseTooLargeError

__all__ = ["MAX_EVENT", "SSEParser"]

#: Bytes of one line, or of all lines of one event together, that are kept at most.
MAX_EVENT = 8 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class SSEParser:
    """
    Splits an event stream into payloads, however its bytes arrive.

    Args:
        max_line: bytes that a line, or all lines of one event together, may have.
        provider, model: who is named when the limit is passed.

    Attributes:
        truncated: set by ``flush`` when the stream ended inside a payload.
    """

    __slots__ = ("_after_cr", "_head", "_held", "_max", "_name", "_size", "_who", "truncated")

    def __init__(self, max_line: int = MAX_EVENT, *, provider: str | None = None, model: str | None = None) -> None:
        self.truncated = False
        self._name: bytes | None = None
        self._max = max_line
        self._who = (provider, model)
        self._head: bytes | None = b""  # the first bytes, while they may still be a byte order mark
        self._after_cr = False
        self._held: list[bytes] = []  # pieces of the event that has no end yet; joined once, so long ones stay linear
        self._size = 0

    @property
    def last_event(self) -> str | None:
        """The ``event:`` name of the last event given out, None when it had none."""
        return None if self._name is None else self._name.strip().decode("utf-8", "replace")

    def feed(self, data: bytes) -> list[bytes]:
        """
        The payloads that these bytes complete, oldest first.

        An event with an explicit empty ``data`` field gives ``b""``.

        Raises:
            ResponseTooLargeError: a line or an event is longer than ``max_line``.
        """
        if self._head is not None:
            data = self._begin(data)
        elif data[:6] == b"data: " and data[-2:] == b"\n\n" and not (self._held or self._after_cr):
            # Slow models bring one event at a time.
            payload = data[6:-2]
            if b"\n" not in payload and b"\r" not in payload and len(data) <= self._max:
                self._name = None
                return [payload]
        if self._after_cr or b"\r" in data:
            data = self._unify(data)
        if self._held:
            if b"\n\n" not in data and not (data[:1] == b"\n" and self._held[-1][-1:] == b"\n"):
                self._hold(data)
                return []
            data = b"".join([*self._held, data])
            self._held.clear()
            self._size = 0
        if data[-2:] == b"\n\n":
            whole = data[:-2]
        else:
            end = data.rfind(b"\n\n")
            if end < 0:
                self._hold(data)
                return []
            self._hold(data[end + 2 :])
            whole = data[:end]
        return self._events(whole)

    def flush(self) -> list[bytes]:
        """
        What is left when the stream has ended.

        An event that lacks only its blank line counts when its payload is whole JSON or ``[DONE]``; otherwise
        ``truncated`` is set and the rest is dropped.
        """
        rest = b"".join([*self._held, self._head or b""])
        self._held.clear()
        self._size = 0
        payload = self._read(rest)
        if not payload:
            return []
        if payload != b"[DONE]":
            try:
                msgspec.json.decode(payload)
            except ValueError:
                self.truncated = True
                return []
        return [payload]

    def _begin(self, data: bytes) -> bytes:
        head = (self._head or b"") + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _unify(self, data: bytes) -> bytes:
        """Make every line end a single LF; a CR counts at once, and an LF that then comes first is its other half."""
        if not data:
            return data
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        self._held.append(data)
        self._size += len(data)
        if self._size > self._max:
            # One LF at the end may be half of the blank line and not belong to the event.
            self._check(self._size - (data[-1:] == b"\n"))

    def _check(self, size: int) -> None:
        if size > self._max:
            provider, model = self._who
            raise ResponseTooLargeError(
                f"{provider or 'the provider'} streamed an event of more than {self._max} bytes for {model!r};"
                " ask for a shorter answer or use another provider",
                provider=provider,
                model=model,
            )

    def _events(self, whole: bytes) -> list[bytes]:
        # Nearly every stream is one "data: " line an event: then one split does it all, and the absence of line ends
        # (faster to look for in one piece) proves that nothing else was there.
        if whole[:6] == b"data: ":
            payloads = whole[6:].split(b"\n\ndata: ")
            if b"\n" not in b"".join(payloads):
                if len(whole) > self._max:
                    self._check(6 + max(map(len, payloads)))
                self._name = None
                return payloads
        found = []
        for block in whole.split(b"\n\n"):
            # The other usual shape: a name line, a data line.
            at = block.find(b"\ndata: ")
            if at > 0 and block[:7] == b"event: " and block.count(b"\n") == 1 and len(block) <= self._max:
                self._name = block[7:at]
                found.append(block[at + 7 :])
                continue
            payload = self._read(block)
            if payload is not None:
                found.append(payload)
        return found

    def _read(self, block: bytes) -> bytes | None:
        """The payload of one event, None when it has no data field."""
        block = block.strip(b"\n")
        self._check(len(block))
        lines: list[bytes] = []
        name: bytes | None = None
        for line in block.split(b"\n"):
            if line[:5] == b"data:":
                lines.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line[:6] == b"event:":
                name = line[6:]
            elif line == b"data":
                lines.append(b"")
        if not lines:
            return None
        self._name = name
        return lines[0] if len(lines) == 1 else b"\n".join(lines)
