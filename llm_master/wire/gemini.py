"""
The wire family ``gemini``: ``generateContent`` of Google's Gemini API and of Vertex AI.

``encode`` writes a request's body (``gemini_encode`` and the files it names), ``decode`` reads a whole answer, and
``Fold`` a streamed one. The address holds the model and whether the answer is streamed: see ``path``.
"""

from __future__ import annotations

from llm_master.errors import InvalidRequestError
from llm_master.wire.gemini_decode import decode
from llm_master.wire.gemini_draft import takes_prefill
from llm_master.wire.gemini_encode import encode
from llm_master.wire.gemini_fold import Fold

__all__ = ["PATH", "Fold", "decode", "encode", "path", "takes_prefill"]

#: The address of a model below the base URL; the row of Vertex AI has ``/publishers/{publisher}`` before it.
PATH = "/models/{model}:{verb}"

# A name that begins so is a resource of its own, not a name in the collection of the template.
_RESOURCES = ("models/", "tunedModels/", "publishers/", "endpoints/", "cachedContents/")


def path(model: str, stream: bool = False, template: str = PATH) -> str:
    """
    The path of a request, to be appended to the base URL.

    Args:
        model: a name, or a resource such as ``tunedModels/x``, ``endpoints/123`` or ``publishers/google/models/x``.
        stream: whether the answer is to come as an event stream.
        template: the row's path, with ``{model}``, ``{verb}`` and maybe ``{publisher}``: the part of the name before
            its slash, ``google`` for a name without one.

    Raises:
        InvalidRequestError: the name would lead to another address.
    """
    from urllib.parse import quote

    if not model or any(step in ("", ".", "..") for step in model.split("/")):
        raise InvalidRequestError(f"{model!r} is no model's name; give one such as 'gemini-3.8-flash'")
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    name = quote(model, safe="/@-._~")
    if model.startswith(_RESOURCES):
        return f"/{name}:{verb}"
    publisher = "google"
    if "{publisher}" in template and "/" in name:
        publisher, _, name = name.partition("/")
    return template.replace("{publisher}", publisher).replace("{model}", name).replace("{verb}", verb)
