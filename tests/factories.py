"""Small real things for tests: pictures, a trained tokenizer, random checkpoints in the layouts that people have on their disks."""

from __future__ import annotations

import asyncio
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image as PIL

from llava.chat import Image

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "a",
    "dog",
    "train",
    "bomb",
    "red",
    "blue",
    "box",
    "with",
    "is",
    "what",
    "where",
    "how",
    "to",
    "make",
    "this",
    "in",
    "real",
    "life",
    "yes",
    "no",
    "harmful",
    "unsafe",
    "answer",
    "question",
    "describe",
    "image",
    "QUERY",
    "RESPONSE",
    "REQUEST",
    "Based",
    "Hints",
    "USER",
    "ASSISTANT",
    "été",
    "猫",
]
SPECIAL = ["<image>", "<pad>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<global-img>"]
VICUNA = (  # vicuna_v1 without its system line
    "{% for message in messages %}{% if message.role == 'user' %}USER: "
    "{% for part in message.content if part.type == 'image' %}<image>\n{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %} "
    "{% else %}ASSISTANT: {% for part in message.content %}{{ part.text }}{% endfor %}</s>{% endif %}{% endfor %}ASSISTANT:"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def image(colour: str = "red", size: tuple[int, int] = (40, 30)) -> Image:
    """A plain picture with a dark corner, so that up and down differ."""
    pil = PIL.new("RGB", size, colour)
    pil.paste("black", (0, 0, max(1, size[0] // 4), max(1, size[1] // 4)))
    return Image(pil)


def encoded(pil: PIL.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    pil.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(size: tuple[int, int] = (40, 20), mode: str = "RGB") -> PIL.Image:
    """Dark, with a bright upper left corner."""
    pil = PIL.new("RGB", size, (10, 20, 30))
    pil.paste((250, 240, 230), (0, 0, size[0] // 2, size[1] // 2))
    return pil.convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels: limits must hold before any is decoded."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread brings about."""
    while not condition():  # noqa: ASYNC110 - other threads cannot set an asyncio.Event
        await asyncio.sleep(0.002)


def sentencepiece_model() -> bytes:
    """A SentencePiece BPE model of 400 pieces with byte fallback, trained on a few made-up sentences."""
    import sentencepiece

    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=12)) + draw.choice(".?!:") for _ in range(400)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def tokenizer(folder: Path, chat_template: str | None = None) -> Any:
    """A Llama tokenizer with the special tokens of several model families."""
    from transformers import AddedToken, LlamaTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    made = LlamaTokenizer.from_pretrained(folder, legacy=False, add_bos_token=True)
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL], special_tokens=True)
    made.pad_token = "<pad>"
    made.chat_template = chat_template
    return made


def _text_config(vocabulary: int, **changes: Any) -> dict[str, Any]:
    config = {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,  # large enough for varied answers
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return {**config, **changes}


_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def _save(model: Any, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    (folder / "tokenizer.model").unlink(missing_ok=True)  # as on the hub: tokenizer.json has it all
    return folder


def llava_checkpoint(folder: Path, **text_changes: Any) -> Path:
    """A Hugging Face-format LLaVA of random weights: 16 image tokens, context 512, template vicuna_v1."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = tokenizer(folder)
    edge = _VISION["image_size"]
    pixels = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
    LlavaProcessor(  # type: ignore[no-untyped-call]
        pixels, words, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=VICUNA
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION),
        text_config=LlamaConfig(**_text_config(len(words), **text_changes)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    return _save(LlavaForConditionalGeneration(config), folder)


def llama_checkpoint(folder: Path, chat_template: str | None = CHATML) -> Path:
    """A text-only Llama of random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(folder, chat_template)
    words.save_pretrained(folder)
    torch.manual_seed(1)
    return _save(LlamaForCausalLM(LlamaConfig(**_text_config(len(words)))), folder)


def idefics_checkpoint(folder: Path) -> Path:
    """An Idefics3 of random weights: another VLM, whose processor cuts images into tiles."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    words = tokenizer(folder)
    pixels = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    Idefics3Processor(pixels, words, image_seq_len=4, chat_template=CHATML).save_pretrained(folder)
    torch.manual_seed(2)
    config = Idefics3Config(
        vision_config=_VISION,
        text_config={"model_type": "llama", **_text_config(len(words))},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return _save(Idefics3ForConditionalGeneration(config), folder)
