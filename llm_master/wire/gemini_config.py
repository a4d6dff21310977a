"""
The parameters that become ``generationConfig``: limits, sampling, stop sequences, modalities, speech and images.
"""

from __future__ import annotations

from llm_master.errors import InvalidRequestError
from llm_master.params import LIMITS
from llm_master.wire.gemini_draft import Draft, camel, camel_keys

__all__ = ["write_config"]

_LIMITS = (*LIMITS, "maxOutputTokens")
_SAMPLING = {"temperature": "temperature", "top_p": "topP", "topP": "topP", "top_k": "topK", "topK": "topK"}
_PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
# Fields of the API that are passed on, in its spelling or in snake case.
_NATIVE = frozenset(
    (
        *("seed", "responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities", "imageConfig"),
        *("speechConfig", "mediaResolution", "responseLogprobs", "audioTimestamp", "routingConfig"),
        *("modelSelectionConfig", "audioTranscriptionConfig", "enableEnhancedCivicAnswers", "enableAffectiveDialog"),
    )
)
_STOPS = ("stop", "stop_sequences", "stopSequences")
_SCHEMAS = ("responseSchema", "responseJsonSchema")
_SIZES = ("512", "1K", "2K", "4K")


def write_config(draft: Draft) -> None:
    """
    Write what belongs into ``generationConfig``, but for thinking and the format of the answer.

    Raises:
        InvalidRequestError: a value that cannot be read.
        UnsupportedParameterError: what the model does not take, unless drop_params is set.
    """
    params, config = draft.params, draft.config
    for name in ("generation_config", "generationConfig"):
        for key, value in params.pop(name, {}).items():
            config[camel(key)] = value if camel(key) in _SCHEMAS else camel_keys(value)
    names = params.keys()
    for own, write in _WRITERS:
        if not names.isdisjoint(own):
            write(draft)
    for name in [name for name in params if camel(name) in _NATIVE]:
        value, spelled = params.pop(name), camel(name)
        config[spelled] = value if spelled in _SCHEMAS else camel_keys(value)


def _write_limit(draft: Draft) -> None:
    draft.config["maxOutputTokens"] = draft.limit(least=1, names=_LIMITS)


def _write_sampling(draft: Draft) -> None:
    for name, field in _SAMPLING.items():
        value = draft.params.pop(name, None)
        if value is None:
            continue
        if not draft.rules.sampling:
            draft.refuse(name, "it ignores sampling parameters", "steer it with the prompt")
        else:
            draft.config[field] = draft.clamped(name, value, draft.dialect.clamp.get(name))


def _write_penalties(draft: Draft) -> None:
    for name, field in _PENALTIES.items():
        given = [draft.params.pop(each, None) for each in (name, field)]
        value = next((each for each in given if each is not None), None)
        if value is None or (not value and not draft.rules.penalties):
            continue
        if not draft.rules.penalties:
            draft.refuse(name, "it rejects penalties")
        else:
            draft.config[field] = draft.clamped(name, value, draft.dialect.clamp.get(name))


def _write_stop(draft: Draft) -> None:
    sequences = draft.stops(*_STOPS)
    if not sequences:
        return
    most = draft.dialect.most_stops
    if len(sequences) > most:
        draft.refuse("stop", f"it takes {most} stop sequences and {len(sequences)} are given", f"give {most}")
        sequences = sequences[:most]
    draft.config["stopSequences"] = sequences


def _write_counts(draft: Draft) -> None:
    params, rules = draft.params, draft.rules
    given = [params.pop(name, None) for name in ("n", "candidate_count", "candidateCount")]
    count = next((each for each in given if each is not None), 1)
    if count > rules.candidates:
        most = f"at most {rules.candidates} answers" if rules.candidates > 1 else "one answer"
        draft.refuse("n", f"it gives {most} to a request", "make several calls")
        count = rules.candidates
    if count > 1:
        draft.config["candidateCount"] = count
    wanted, top = params.pop("logprobs", None), params.pop("top_logprobs", None)
    if (wanted or top) and not rules.logprobs:
        for name, value in (("logprobs", wanted), ("top_logprobs", top)):
            if value:
                draft.refuse(name, "it gives none", "use a model that does")
        return
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        # The API's own ``logprobs`` is a number.
        wanted, top = True, wanted
    if not wanted and not top:
        return
    draft.config["responseLogprobs"] = True
    if top:
        draft.config["logprobs"] = top


def _write_modalities(draft: Draft) -> None:
    modalities, audio = draft.params.pop("modalities", None), draft.params.pop("audio", None)
    if modalities is not None:
        if not isinstance(modalities, list | tuple) or not all(isinstance(each, str) for each in modalities):
            raise InvalidRequestError(f"{draft.target}: modalities is a list of words, not {modalities!r}")
        draft.config["responseModalities"] = [each.upper() for each in modalities]
    if audio is None:
        return
    if not isinstance(audio, dict):
        raise InvalidRequestError(f"{draft.target}: audio is a dict with a voice, not {audio!r}")
    form = audio.get("format")
    if form not in (None, "wav", "pcm16"):
        draft.refuse("audio.format", f"it speaks PCM and not {form!r}", "give 'wav' or 'pcm16'")
    if audio.get("voice"):
        voice = {"prebuiltVoiceConfig": {"voiceName": audio["voice"]}}
        draft.config["speechConfig"] = {"voiceConfig": voice}


def _write_image(draft: Draft) -> None:
    params = draft.params
    size, image = params.pop("size", None), {}
    ratio, scale = params.pop("aspect_ratio", None), params.pop("image_size", None)
    if isinstance(size, str) and size in _SIZES:
        scale = scale or size
    elif isinstance(size, str) and ":" in size:
        ratio = ratio or size
    elif size is not None:
        sizes = ", ".join(_SIZES)
        draft.refuse("size", f"it draws in a ratio and no {size!r}", f"give a ratio as '16:9', or one of {sizes}")
    if ratio is not None:
        image["aspectRatio"] = ratio
    if scale is not None:
        image["imageSize"] = scale
    if image:
        draft.config["imageConfig"] = {**draft.config.get("imageConfig", {}), **image}


_WRITERS = (
    (frozenset(_LIMITS), _write_limit),
    (frozenset(_SAMPLING), _write_sampling),
    (frozenset((*_PENALTIES, *_PENALTIES.values())), _write_penalties),
    (frozenset(_STOPS), _write_stop),
    (frozenset(("n", "candidate_count", "candidateCount", "logprobs", "top_logprobs")), _write_counts),
    (frozenset(("modalities", "audio")), _write_modalities),
    (frozenset(("size", "aspect_ratio", "image_size")), _write_image),
)
