"""
The embedded model's own process: xllamacpp's HTTP server on a loopback port.

It is run as a file, never imported by the package, and imports nothing of it:
``python -P local_child.py <folder of xllamacpp> <parent's pid>``. Standard input brings one line of JSON (model, key
and sizes) and then stays open for as long as the parent lives. Standard output gives one line of JSON back:
``{"url": ...}`` or ``{"error": "import" | "load", "message": ...}``. Everything else goes to standard error.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import sys
import threading
from typing import Any, NoReturn

_HEAD = 1 << 20


def main(folder: str, parent: int) -> NoReturn:
    """Serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the parent's business
    _die_with(parent)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints must not look like a report
    try:
        library = _library(folder)
    except (ImportError, OSError) as error:
        _give_up(out, "import", str(error))
    line = b""
    while not line.endswith(b"\n"):
        line += _input(parent)
    watcher = threading.Thread(target=_watch, args=(parent,), daemon=True)
    watcher.start()
    try:
        server = library.Server(_parameters(library, json.loads(line)))
    except Exception as error:  # noqa: BLE001  # the parent turns whatever went wrong into a typed error
        _give_up(out, "load", str(error))
    _report(out, {"url": server.listening_address})
    watcher.join()
    os._exit(0)


def _library(folder: str) -> Any:
    # From this folder and no other; it does not go into sys.path, where it could hide the standard library.
    spec = importlib.machinery.PathFinder.find_spec("xllamacpp", [folder])
    if spec is None or spec.loader is None:
        raise ImportError(f"no xllamacpp in {folder}")
    module = sys.modules["xllamacpp"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parameters(library: Any, wanted: dict[str, Any]) -> Any:
    params = library.CommonParams()
    params.model.path = wanted["model"]
    params.model_alias = {wanted["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # the system picks a free one, so two servers never ask for the same
    params.api_keys = [wanted["key"]]
    params.n_parallel = wanted["parallel"]
    # One cache of all slots, each with its full share. With a cache for each, texts of different lengths that are
    # embedded in one batch are split over several, and their means are wrong.
    params.n_ctx = wanted["context"] * wanted["parallel"]
    params.kv_unified = True
    params.kv_unified_per_slot = wanted["context"]
    params.n_predict = wanted["limit"]  # for requests that set none; -1 is no limit
    params.cpuparams.n_threads = wanted["threads"]
    params.cpuparams_batch.n_threads = wanted["threads"]
    # Chat and embeddings in one server: an embedding's input must fit one physical batch.
    params.embedding = True
    params.n_batch = params.n_ubatch = min(wanted["batch"], wanted["context"])
    if not _has_pooling(wanted["model"]):
        params.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.fit_params = wanted["fit"]  # it loads the model once more, to see how much of it a GPU can take
    params.cache_ram_mib = 0  # its own default keeps up to 8 GiB of old prompts
    params.verbosity = 1  # errors only: prompts do not belong in a log
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # it would show other requests' prompts
    return params


def _has_pooling(path: str) -> bool:
    # An embedding model says how it pools, near the start of its file; a chat model says nothing, and without pooling
    # there is no OpenAI-style embedding.
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib is not loaded in this small process
        return b".pooling_type" in file.read(_HEAD)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)


def _input(parent: int) -> bytes:
    # The end of input is the parent's end, or its word to stop. A process that the parent forked may hold the pipe
    # open, hence the look at the parent's id.
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable:
            data = os.read(0, 65536)
            if data:
                return data
            break
    os._exit(0)


def _watch(parent: int) -> NoReturn:
    while True:
        _input(parent)


def _report(out: int, message: dict[str, str]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")
    os.close(out)


def _give_up(out: int, error: str, message: str) -> NoReturn:
    _report(out, {"error": error, "message": message})
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
