"""
The ``openai_responses`` family: OpenAI's Responses API as OpenAI and the compatible servers speak it.

Pure translation, no sockets. ``encode`` makes the body of a request, ``decode`` reads a whole answer, ``Fold`` a
streamed one. How a server deviates is data: its ``ResponsesDialect``. Source of the format:
https://developers.openai.com/api/reference/resources/responses and the types of openai 3.52.0, seen 2026-11-21.

Nothing is stored at the provider unless the caller asks for it (``store``, ``previous_response_id``,
``conversation``): the model's reasoning travels encrypted in ``response.message`` instead.
"""

from __future__ import annotations

from llm_master.wire.openai_responses_decode import decode
from llm_master.wire.openai_responses_encode import encode
from llm_master.wire.openai_responses_fold import Fold
from llm_master.wire.openai_responses_plan import takes_prefill

__all__ = ["PATH", "Fold", "decode", "encode", "takes_prefill"]

#: What is appended to a base URL.
PATH = "/responses"
