"""The engine's inner parts without its threads: one step at a time, and what transformers' own `generate` says to the same calls."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig, Qwen2Config

from llava.chat import Call, Chat, Delta, Message, Reply, Sampling
from llava.engines.local.answer import Answer
from llava.engines.local.batcher import Batcher
from llava.engines.local.inbox import Job
from llava.engines.local.lanes import lanes_for
from llava.engines.local.runner import SlotRunner
from llava.engines.local.text import TextStream
from llava.model.loaded import Loaded
from tests.factories import image

RED, BLUE = image("red"), image("blue", (20, 60))
TURNS = Chat((Message("user", "the cat", (RED,)), Message("assistant", "yes </s>"), Message("user", "where is it", (BLUE,))))
LONG = Chat.ask("the dog sat on the mat with a red box " * 6)
CHATS = [
    Chat.ask("what is in the box?"),
    Chat.ask("the dog <image> </s> USER:", [RED]),
    Chat.ask("a b", [RED, BLUE]),
    TURNS,
    Chat.ask("is this harmful? the cat sat on the mat", [RED]),
    Chat.ask("a b", [BLUE]),
    LONG,
]

FAMILIES: dict[str, Any] = {
    "llama": lambda **size: LlamaConfig(**size, num_key_value_heads=4),
    "mistral": lambda **size: MistralConfig(**size, num_key_value_heads=2, sliding_window=None),
    "qwen2": lambda **size: Qwen2Config(**size, num_key_value_heads=1),
}


def of_family(llava: Loaded, family: str) -> Loaded:
    """The same LLaVA around another, random language model: with as many key and value heads as heads, with half, with one."""
    old = llava.model.config
    text = FAMILIES[family](
        vocab_size=old.text_config.vocab_size,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(5)
    config = LlavaConfig(
        vision_config=old.vision_config, text_config=text, image_token_index=old.image_token_index, vision_feature_layer=-2
    )
    model: Any = LlavaForConditionalGeneration(config)
    model.generation_config = llava.model.generation_config
    return replace(llava, model=model.eval())


def generated(loaded: Loaded, chat: Chat, count: int) -> list[int]:
    """Greedy tokens of transformers' `generate`, without the prompt."""
    inputs = loaded.encode(chat)
    tokens = loaded.model.generate(**inputs, max_new_tokens=count, do_sample=False)[0]
    found: list[int] = tokens[inputs["input_ids"].shape[1] :].tolist()
    return found


def logprobs(loaded: Loaded, chat: Chat) -> dict[str, float]:
    """Probabilities (not their logarithms) of the 20 likeliest first tokens, by their text."""
    with torch.inference_mode():
        logits = loaded.model(**loaded.encode(chat)).logits[0, -1]
    top = torch.log_softmax(logits.float(), -1).topk(20)
    found: dict[str, float] = {}
    for token, value in zip(top.indices.tolist(), top.values.exp().tolist(), strict=True):
        found[loaded.decode([token])] = found.get(loaded.decode([token]), 0.0) + value
    return found


def shown(loaded: Loaded, tokens: Sequence[int]) -> str:
    """The text of these tokens as it is streamed (control tokens at the end left out)."""
    text = TextStream(loaded.decode)
    return "".join([*(text.add(token) for token in tokens if token not in loaded.eos_ids), text.finish()])


def call(chat: Chat, max_tokens: int = 20, top_logprobs: int = 0, **sampling: Any) -> Call:
    return Call("answer", chat, Sampling(max_tokens=max_tokens, **sampling), top_logprobs)


def batcher(loaded: Loaded, max_batch: int = 8, chunk: int = 256, budget: int = 2**26) -> Batcher[Any]:
    """An engine's inside, with nothing to do yet."""
    return lanes_for(loaded, max_batch, chunk, budget, most=1)[0]


def over_slots(inside: Batcher[Any]) -> SlotRunner:
    """Its runner, where that is the one over slots."""
    assert isinstance(inside.runner, SlotRunner)
    return inside.runner


def before_pass(loaded: Loaded, action: Callable[[torch.Tensor, torch.Tensor], object]) -> Any:
    """Before each forward pass of the language model: `action` with the embeddings and the positions. Gives the hook, to be removed."""
    return loaded.model.get_decoder().rotary_emb.register_forward_pre_hook(
        lambda _, given, named: action(given[0], *given[1:], *named.values()), with_kwargs=True
    )


def add(inside: Batcher[Any], one: Call) -> Answer[Any]:
    """The call comes. Within a running event loop."""
    return inside.add(Job(one, inside.runner.prepare(one), time.monotonic()))


async def outcome(answer: Answer[Any]) -> tuple[list[Delta], Reply]:
    """What its reader gets; raises what ended it."""
    deltas: list[Delta] = []
    while True:
        deltas.append(await asyncio.wait_for(answer.job.receive(), 5))
        if (reply := deltas[-1].reply) is not None:
            return deltas, reply


def finish(inside: Batcher[Any]) -> None:
    """Steps until nothing is left to do."""
    for _ in range(10_000):
        if inside.scheduler.idle:
            return
        inside.step()
    raise AssertionError("the calls do not end")


def ask(loaded: Loaded, *calls: Call, **options: int) -> list[Reply]:
    """The replies to calls that come together, on an inside of their own; raises the first error."""
    return _replies(batcher(loaded, **options), *calls)


def run(inside: Batcher[Any], *calls: Call) -> list[str]:
    """The texts of calls that come together."""
    return [reply.text for reply in _replies(inside, *calls)]


def _replies(inside: Batcher[Any], *calls: Call) -> list[Reply]:
    async def main() -> list[Reply]:
        answers = [add(inside, one) for one in calls]
        finish(inside)
        return [(await outcome(answer))[1] for answer in answers]

    return asyncio.run(main())
