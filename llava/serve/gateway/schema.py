"""What a request may say. Every field has a type; what we cannot honour is refused by name, and what has no meaning here is listed as such.

Types only: how many and how large is `content`'s, whose limits the operator chooses. Sentences about a wrong field never repeat its value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llava.chat import MAX_TOP_LOGPROBS
from llava.serve.refusal import Refusal


class Strict(BaseModel):
    """No conversions, no unknown fields, no infinities."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


SEEDS = range(-(2**63), 2**63)  # what servers behind take for one

M = TypeVar("M", bound=Strict)
Zero = Annotated[float, Field(ge=0, le=0)]
Nothing = Annotated[list[Any], Field(max_length=0)]


class ImageUrl(Strict):
    """`detail` is accepted and has no effect: every model here sees the image in its own resolution."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(Strict):
    """Text inside a message."""

    type: Literal["text"]
    text: str


class ImagePart(Strict):
    """An image as a data URL, or by its address where the operator allows that."""

    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalPart(Strict):
    """A refusal of an earlier turn, sent back as history."""

    type: Literal["refusal"]
    refusal: str


class SystemMessage(Strict):
    """Instructions before the conversation."""

    role: Literal["system", "developer"]
    content: str | list[TextPart]


class UserMessage(Strict):
    """A user's turn: text, images."""

    role: Literal["user"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class AssistantMessage(Strict):
    """An earlier answer. What the openai client writes into a message of ours may be sent back as it is."""

    role: Literal["assistant"]
    content: str | list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]] | None = None
    refusal: str | None = None
    tool_calls: Nothing | None = None
    annotations: Nothing | None = None
    audio: None = None
    function_call: None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
Mode = Literal["guard", "shadow", "off"]


class GuardOptions(Strict):
    """Ours: `report` asks for the `guard` object in the answer; `mode` asks for another mode, where the operator allows that."""

    mode: Mode | None = None
    report: bool = False


class StreamOptions(Strict):
    """`include_usage`: a last chunk with the usage."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # no effect: all chunks of an answer leave together


class TextFormat(Strict):
    """The only format."""

    type: Literal["text"]


class ChatRequest(Strict):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=SEEDS.start, lt=SEEDS.stop)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    guard: GuardOptions = GuardOptions()
    # Taken only with the value that asks for nothing: clients send these by themselves.
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    response_format: TextFormat | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    modalities: list[Literal["text"]] | None = None
    # No effect, and none is claimed.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CheckRequest(Strict):
    """`POST /v1/guard/check`: a chat and an answer that somebody wants to give. `safe_answer`: when that is harmful, give another."""

    model: str | None = None
    messages: list[Message]
    answer: str
    safe_answer: bool = False


class ModerationRequest(Strict):
    """`POST /v1/moderations`. `input` is a text, several texts, or the parts of one: a text and the images that it is about. `messages`,
    ours, is the conversation in which it is the answer."""

    model: str | None = None
    input: str | list[str] | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]
    messages: list[Message] | None = None


def read(data: dict[str, Any], kind: type[M]) -> M:
    """A parsed body as a request of that kind; raises `Refusal` (400)."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _first(error, data) from None


def _first(error: ValidationError, data: Any) -> Refusal:
    """The most specific of pydantic's findings, in our words."""
    found = max(error.errors(include_url=False, include_input=False), key=lambda each: len(each["loc"]))
    param = _path(found["loc"], data)
    if found["type"] == "missing":
        return Refusal(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if found["type"] == "extra_forbidden":
        return Refusal(400, f"Unsupported parameter: '{param}'.", code="unsupported_parameter", param=param)
    if found["type"] == "union_tag_invalid":
        tags = found["ctx"]["expected_tags"]
        name = found["ctx"]["discriminator"].strip("'")
        said = f"The guard cannot inspect this: '{param}.{name}' must be one of {tags}."
        return Refusal(400, said, code=UNINSPECTED, param=f"{param}.{name}")
    if found["type"] == "union_tag_not_found":
        param = f"{param}.{found['ctx']['discriminator'].strip(chr(39))}"
        return Refusal(400, f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    if param.partition(".")[0] in UNSUPPORTED:
        return Refusal(400, f"Unsupported value for '{param}': leave it out.", code="unsupported_value", param=param)
    said = _SAID.get(found["type"], found["msg"])
    return Refusal(400, f"Invalid value for '{param}': {said}.", code="invalid_value", param=param)


UNINSPECTED = "unsupported_content"
# Where pydantic would speak of Python, or of lists that have no place here (`Nothing` is the only one with a length).
_SAID = {
    "string_unicode": "the text is not valid Unicode",
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "too_long": "Input should be an empty list",
}
UNSUPPORTED = {"frequency_penalty", "presence_penalty", "response_format", "tools", "tool_choice", "modalities"}


def _path(loc: tuple[int | str, ...], data: Any) -> str:
    """Where in `data`, as in `messages[0].content`; pydantic's own marks for members of unions are left out."""
    path, here, tagged = "", data, False
    for at, step in enumerate(loc):
        if isinstance(here, dict) and not tagged and step in (here.get("role"), here.get("type")):
            tagged = True
            continue
        tagged = False
        if isinstance(step, int) and isinstance(here, list) and step < len(here):
            path, here = f"{path}[{step}]", here[step]
        elif isinstance(step, str) and isinstance(here, dict) and (step in here or at == len(loc) - 1):
            name = step if len(step) <= 64 and step.isprintable() else "?"
            path, here = f"{path}.{name}" if path else name, here.get(step)
    return path or "body"
