"""
The ``openai_chat`` family: OpenAI's Chat Completions as OpenAI and the compatible servers speak it.

Pure translation, no sockets. ``encode`` makes the body of a request, ``decode`` reads a whole answer, ``Fold`` a
streamed one. How a server deviates is data: its ``ChatDialect``. Source of the format:
https://platform.openai.com/docs/api-reference/chat, and the clients and servers named in the modules beside this one.
"""

from __future__ import annotations

from llm_master.wire.openai_chat_decode import decode
from llm_master.wire.openai_chat_encode import encode
from llm_master.wire.openai_chat_fold import Fold
from llm_master.wire.openai_chat_plan import takes_prefill

__all__ = ["PATH", "Fold", "decode", "encode", "takes_prefill"]

#: What is appended to a base URL.
PATH = "/chat/completions"
