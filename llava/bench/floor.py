"""The least time that a machine could take for a workload: the larger of operations / rate and bytes / bandwidth.

That lets all arithmetic and all traffic happen at once. Where prompts are read in one pass and tokens spoken in another, as here, a core
does one at a time: `in_turn` estimates the least time for that, the larger of both for the prompts and then for the tokens. An engine with
cores that read while others speak may come below it.

What is counted is what no engine can leave out: each image through the vision tower and the prompt's beginning (system line and
image) once, each other position of a prompt and each token once, the weights once for every token of the rows that run together, and
each row's keys and values once a token. Norms, rotations, softmax and sampling are not counted. A machine whose caches hold the
weights can beat the bytes' part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from llava.bench.machine import Rates
from llava.bench.plain import Said
from llava.chat import Call, Chat, Image
from llava.model.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Size:
    """What a forward pass of a LLaVA model costs.

    `body` and `head`: parameters of the language model's layers and of its output. `attention`: operations for each pair of a position
    and one that it sees. `cached`: bytes of keys and values of a position. `image`: operations of the vision tower and projector.
    `system` and `prefix`: positions before the image, and to its end.
    """

    body: int
    head: int
    attention: int
    cached: int
    image: int
    bytes_per_value: int
    system: int
    prefix: int

    @classmethod
    def of(cls, loaded: Loaded) -> Size:
        """Counted on the loaded model and on a prompt with an image."""
        model, text = loaded.model, loaded.model.config.text_config
        size = loaded.dtype.itemsize
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        system, prefix = _image_positions(loaded)
        return cls(
            body=_parameters(model.model.language_model.layers),
            head=model.get_output_embeddings().weight.numel(),
            attention=4 * text.num_attention_heads * head_dim * text.num_hidden_layers,
            cached=2 * text.num_key_value_heads * head_dim * text.num_hidden_layers * size,
            image=_image_operations(loaded),
            bytes_per_value=size,
            system=system,
            prefix=prefix,
        )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _image_operations(loaded: Loaded) -> int:
    model, vision = loaded.model, loaded.model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2 + 1
    last = model.config.vision_feature_layer
    layers = vision.num_hidden_layers + 1 + last if isinstance(last, int) and last < 0 else vision.num_hidden_layers
    encoder = 2 * patches * _parameters(model.model.vision_tower.encoder.layers) * layers // vision.num_hidden_layers
    attention = 4 * vision.hidden_size * layers * patches**2
    embedding = 2 * patches * vision.num_channels * vision.patch_size**2 * vision.hidden_size
    projector = 2 * loaded.image_tokens * _parameters(model.model.multi_modal_projector)
    return int(encoder + attention + embedding + projector)


def _image_positions(loaded: Loaded) -> tuple[int, int]:
    from PIL import Image as PIL

    ids = loaded.encode(Chat.ask("?", [Image(PIL.new("RGB", (8, 8)))]))["input_ids"][0].tolist()
    image = loaded.model.config.image_token_id
    return ids.index(image), len(ids) - ids[::-1].index(image)


@dataclass(frozen=True, slots=True)
class Floor:
    """`seconds` that a workload takes at least, and which of the two (`operations` or `bytes`) sets it; `in_turn`, the seconds where all
    prompts are read before tokens are spoken."""

    operations: float
    bytes: float
    seconds: float
    bound: str
    in_turn: float


def floor(operations: float, moved: float, rates: Rates, prompts: tuple[float, float] = (0.0, 0.0)) -> Floor:
    """The larger of both times. `prompts`: how many of the operations and of the bytes are theirs."""
    computing, moving = operations / rates.operations, moved / rates.bytes
    read, fetched = prompts[0] / rates.operations, prompts[1] / rates.bytes
    bound = "operations" if computing >= moving else "bytes"
    return Floor(operations, moved, max(computing, moving), bound, max(read, fetched) + max(computing - read, moving - fetched))


def floor_of_calls(size: Size, calls: Sequence[tuple[Call, Said]], in_flight: int, rates: Rates) -> Floor:
    """The floor of finished calls, of which `in_flight` ran together."""
    images = len({image.sha256 for call, _ in calls for image in call.chat.images})
    prompts = images * (size.image + _operations(size, size.system, size.prefix)) + _operations(size, 0, size.system)
    spoken, cached, tokens = 0, 0, 0
    for call, said in calls:
        shared, end = size.prefix if call.chat.images else size.system, said.prompt_tokens + said.completion_tokens - 1
        prompts += _operations(size, shared, said.prompt_tokens) + 2 * size.head  # the first token comes of the prompt
        spoken += _operations(size, said.prompt_tokens, end) + 2 * size.head * (said.completion_tokens - 1)
        cached += _pairs(said.prompt_tokens, end) * size.cached
        tokens += said.completion_tokens
    weights = (size.body + size.head) * size.bytes_per_value
    passes, first = math.ceil(tokens / in_flight), math.ceil(len(calls) / in_flight)
    return floor(prompts + spoken, passes * weights + cached, rates, (prompts, first * weights))


def floor_of_step(size: Size, contexts: Iterable[int], rates: Rates) -> Floor:
    """The floor of one decode step of rows that see so many positions each."""
    seen = list(contexts)
    operations = len(seen) * 2 * (size.body + size.head) + sum(seen) * size.attention
    return floor(operations, (size.body + size.head) * size.bytes_per_value + sum(seen) * size.cached, rates)


def _operations(size: Size, start: int, end: int) -> int:
    """Of the language model's layers for the positions from `start` to before `end` of one row."""
    return 2 * size.body * (end - start) + size.attention * _pairs(start, end)


def _pairs(start: int, end: int) -> int:
    """How many positions those from `start` to before `end` see in all, each itself and all before it."""
    return (end * (end + 1) - start * (start + 1)) // 2
