"""
Where an answer comes from: grounding and recitation, as the annotations of the chat format.

Google counts positions in bytes of UTF-8; an annotation counts characters of the answer's text.
"""

from __future__ import annotations

from typing import Any

__all__ = ["citations_of"]

_KINDS = ("web", "retrievedContext", "maps", "image")


def citations_of(text: str, grounding: dict[str, Any] | None, recited: dict[str, Any] | None) -> list[dict[str, Any]]:
    """
    One ``url_citation`` for each passage and source, then one for each source that no passage names.

    Args:
        text: the answer's text.
        grounding: ``groundingMetadata``.
        recited: ``citationMetadata``.
    """
    found: list[dict[str, Any]] = []
    if grounding:
        found += _grounded(text, grounding)
    for source in (recited or {}).get("citationSources") or (recited or {}).get("citations") or ():
        if isinstance(source, dict):
            span = _span(text.encode(), source.get("startIndex") or 0, source.get("endIndex"))
            found.append(_citation(source.get("uri"), source.get("title"), span, license=source.get("license")))
    return found


def _grounded(text: str, grounding: dict[str, Any]) -> list[dict[str, Any]]:
    sources = [_source(chunk) for chunk in grounding.get("groundingChunks") or ()]
    data = text.encode()
    found: list[dict[str, Any]] = []
    named: set[int] = set()
    for support in grounding.get("groundingSupports") or ():
        if not isinstance(support, dict):
            continue
        segment = support.get("segment") or {}
        span = _passage(text, data, segment)
        for index in support.get("groundingChunkIndices") or ():
            if isinstance(index, int) and 0 <= index < len(sources) and (source := sources[index]) is not None:
                named.add(index)
                found.append(_citation(source.get("uri"), source.get("title"), span, cited_text=segment.get("text")))
    found += [
        _citation(source.get("uri"), source.get("title"), None)
        for index, source in enumerate(sources)
        if source is not None and index not in named
    ]
    return found


def _source(chunk: Any) -> dict[str, Any] | None:
    if not isinstance(chunk, dict):
        return None
    return next((chunk[kind] for kind in _KINDS if isinstance(chunk.get(kind), dict)), None)


def _passage(text: str, data: bytes, segment: dict[str, Any]) -> tuple[int, int] | None:
    """Where a passage stands; its offsets count from its part, so its words decide where they disagree."""
    words = segment.get("text")
    span = _span(data, segment.get("startIndex") or 0, segment.get("endIndex"))
    if not isinstance(words, str) or not words or (span is not None and text[slice(*span)] == words):
        return span
    start = text.find(words)
    return (start, start + len(words)) if start >= 0 else None


def _span(data: bytes, start: Any, end: Any) -> tuple[int, int] | None:
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(data):
        return None
    before = len(data[:start].decode("utf-8", "ignore"))
    return before, before + len(data[start:end].decode("utf-8", "ignore"))


def _citation(url: Any, title: Any, span: tuple[int, int] | None, **more: Any) -> dict[str, Any]:
    fields = {"url": url, "title": title, **more}
    if span is not None:
        fields["start_index"], fields["end_index"] = span
    return {"type": "url_citation", "url_citation": {key: value for key, value in fields.items() if value is not None}}
