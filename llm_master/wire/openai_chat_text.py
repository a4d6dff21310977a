"""
Text that means more than itself: thinking between tags, and answers that were forced into a JSON schema.

Both readers take the text piece by piece and give out what is certain.
"""

from __future__ import annotations

import re

import msgspec

from llm_master.classes import ToolCall

__all__ = ["AnswerReader", "ThinkSplitter"]

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkSplitter:
    """
    Parts ``<think>reasoning</think>answer``; text that does not begin with the tag is all answer.

    Attributes:
        settled: whether everything that follows is answer, so that this reader is not needed any more.
    """

    __slots__ = ("_blank", "_inside", "_left", "_rest", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._inside = False
        self._blank = True  # no reasoning was seen yet; white space before it is skipped
        self._left = False  # the closing tag was seen; white space after it is skipped
        self._rest = ""

    def feed(self, text: str) -> tuple[str, str]:
        """The reasoning and the answer that this piece brings."""
        if self.settled:
            return "", text
        self._rest += text
        reasoning = ""
        if not self._inside and not self._left:
            start = self._rest.lstrip()
            if len(start) < len(_OPEN) and _OPEN.startswith(start):
                return "", ""
            if not start.startswith(_OPEN):
                return "", self._release()
            self._inside = True
            self._rest = start[len(_OPEN) :]
        if self._inside:
            reasoning = self._reason()
        if self._left:
            self._rest = self._rest.lstrip()
            if self._rest:
                return reasoning, self._release()
        return reasoning, ""

    def finish(self) -> tuple[str, str]:
        """What was held back when the text has ended."""
        if self._inside:
            self._inside = False
            return self._release(), ""
        return "", self._release()

    def _reason(self) -> str:
        if self._blank:
            self._rest = self._rest.lstrip()
            self._blank = not self._rest
        before, tag, after = self._rest.partition(_CLOSE)
        if tag:
            self._inside, self._left, self._rest = False, True, after
            return before
        keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if before.endswith(_CLOSE[:n])), 0)
        cut = len(before) - keep
        self._rest = before[cut:]
        return before[:cut]

    def _release(self) -> str:
        text, self._rest, self.settled = self._rest, "", True
        return text


_FIRST_KEY = re.compile(r'\s*\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*(\S)')
_MAY_BE_FIRST_KEY = re.compile(r'\s*(?:\{\s*(?:"(?:[^"\\]|\\.)*(?:\\|"\s*(?::\s*)?)?)?)?\Z')
# Whole characters of a JSON string: no quote, no half escape, no first half of a surrogate pair.
_WHOLE = re.compile(
    r'(?:[^"\\]+|\\["\\/bfnrt]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,4}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?")
_CONTROL = re.compile(r"[\x00-\x1f]")


class AnswerReader:
    """
    Reads ``{"answer": ...}`` or ``{"name": ..., "arguments": {...}}``.

    A text answer is given out while it comes. Anything else is kept to the end; what is neither form is plain text.

    Args:
        names: the tools that were offered.
    """

    __slots__ = ("_mode", "_names", "_rest", "_whole")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._mode = "start"
        self._rest = ""
        self._whole: list[str] = []

    def feed(self, text: str) -> str:
        """The answer's text that this piece brings."""
        if self._mode == "plain":
            return text
        if self._mode == "text":
            return self._read(text)
        if self._mode == "over":
            return ""
        self._whole.append(text)
        if self._mode == "start":
            self._rest += text
            return self._choose()
        return ""

    def _choose(self) -> str:
        found = _FIRST_KEY.match(self._rest)
        if found is None:
            if _MAY_BE_FIRST_KEY.match(self._rest):
                return ""
            self._mode = "plain"
            return self._rest
        if found[1] == "answer" and found[2] == '"':
            self._mode = "text"
            start, self._rest = self._rest[found.end() :], ""
            return self._read(start)
        self._mode = "value" if found[1] in ("answer", "name", "arguments") else "plain"
        return "" if self._mode == "value" else self._rest

    def _read(self, text: str) -> str:
        self._rest += text
        found = _WHOLE.match(self._rest)
        end = found.end() if found is not None else 0
        whole, self._rest = self._rest[:end], self._rest[end:]
        if self._rest.startswith('"'):
            self._mode, self._rest = "over", ""
        if not whole:
            return ""
        whole = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", whole)
        return msgspec.json.decode(f'"{whole}"', type=str)

    def finish(self, call_id: str) -> tuple[str, ToolCall | None]:
        """
        The text and the call that were held back when the answer has ended.

        Args:
            call_id: the id for the call, as the model gives none.
        """
        mode, self._mode = self._mode, "over"
        if mode == "text":
            # An escape that was cut off says nothing; one that no JSON knows is given as it stands.
            return "" if _CUT_ESCAPE.fullmatch(self._rest) else self._rest, None
        if mode not in ("start", "value"):
            return "", None
        text = "".join(self._whole)
        try:
            found = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            return self._broken(text, call_id)
        if isinstance(found, dict):
            if "answer" in found:
                answer = found["answer"]
                return answer if isinstance(answer, str) else msgspec.json.encode(answer).decode(), None
            name, arguments = found.get("name"), found.get("arguments", {})
            if isinstance(name, str) and name in self._names and isinstance(arguments, dict):
                return "", ToolCall(call_id, name, arguments)
        return text, None

    def _broken(self, text: str, call_id: str) -> tuple[str, ToolCall | None]:
        """A call that was cut off stays a call, so that nobody takes its JSON for the answer."""
        found = re.match(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*', text)
        if found is not None:
            name = msgspec.json.decode(found[1])
            if name in self._names:
                return "", ToolCall(call_id, name, raw_arguments=text[found.end() :])
        return text, None
