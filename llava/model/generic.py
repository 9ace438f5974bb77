"""Vision-language models other than LLaVA, and text-only language models, as transformers has them.

Prompts are rendered by the model's own chat template and images prepared by its own processor. What people and models said never
passes through either as text: they see a placeholder that nobody can guess, and the text itself is tokenised apart, so that
`<image>` or `<|im_end|>` in a question stays text. Nothing from a checkpoint is executed (`trust_remote_code` is never set).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, BatchEncoding
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from llava.chat import Chat, Message
from llava.errors import CheckpointError, LlavaError, UserError
from llava.model.failures import UNREADABLE
from llava.model.loaded import Loaded
from llava.model.tokenizer import Control, PlainText

PLAIN_ROLES = {"system": "", "user": "User: ", "assistant": "Assistant: "}  # for language models without a chat template
PLAIN_STOP = "\nUser:"


def load_generic(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype | None, attn_implementation: str | None) -> Loaded:
    """The model of `folder`: a vision-language model or a text-only one. `dtype` None: float32 on a CPU, else the checkpoint's.

    Raises `CheckpointError` for what cannot be read, `UserError` for an option that the model does not take or a missing package.
    """
    config = _try(folder, AutoConfig.from_pretrained)
    if config.is_encoder_decoder:
        raise CheckpointError(f"{folder} ({config.model_type}) is no decoder-only model: others are not supported.")
    sees = _sees(folder, config)
    config._attn_implementation = None  # a checkpoint's wish may name code on the hub, which transformers would fetch and run
    options: dict[str, Any] = {"dtype": dtype or (torch.float32 if device.type == "cpu" else "auto"), "device_map": {"": device}}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    processor: Any = _try(folder, AutoProcessor.from_pretrained) if sees else None
    tokenizer = processor.tokenizer if sees else _try(folder, AutoTokenizer.from_pretrained)
    if sees and not processor.chat_template:
        raise CheckpointError(f"{folder} has no chat template: its prompts are not known. Add its chat_template.jinja.")
    family = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model, report = _try(folder, family.from_pretrained, config=config, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{folder} lacks {len(missing)} weights ({', '.join(missing[:3])}, ...): copy the checkpoint again.")
    context = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or tokenizer.model_max_length
    pixels = processor.image_processor if sees else None
    return Generic(model.eval(), tokenizer, pixels, min(int(context), 2**31), name, processor=processor)


@dataclass(frozen=True, eq=False)
class Generic(Loaded):
    """A model with its own chat template; with images when it has a `processor`."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer: only the plain form for models without a template needs one."""
        return () if self._template_of() else (PLAIN_STOP,)

    def encode(self, chat: Chat) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` (1, N) and, with images, whatever the model's processor makes of them, on the model's device.

        Raises `UserError` for images that the model cannot take and for chats that its template does not know.
        """
        if chat.images and self.processor is None:
            raise UserError(f"{self.name} is a text-only model: ask without an image, or use a vision-language model.")
        said = {f"\ue000{secrets.token_hex(12)}\ue001": message.text for message in chat.messages}
        prompt = self._render(chat, list(said))
        tokenizer = Splicing(self.tokenizer, self.plain, said)
        if chat.images:
            return self._with_images(chat, prompt, tokenizer)
        input_ids = torch.tensor([tokenizer.ids(prompt, add_special_tokens=not self._template_of())], device=self.device)
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}

    def _with_images(self, chat: Chat, prompt: str, tokenizer: Splicing) -> dict[str, Tensor]:
        # The template writes BOS where the model wants it; where it does not, the processor adds it, as in transformers.
        add_special_tokens = not (self.tokenizer.bos_token and prompt.startswith(self.tokenizer.bos_token))
        # The processor expands image slots between rendering and tokenising, so the tokeniser within it has to be ours.
        self.processor.tokenizer = tokenizer
        try:
            images = [image.pil() for image in chat.images]
            inputs = self.processor(images=images, text=prompt, add_special_tokens=add_special_tokens, return_tensors="pt")
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(f"{self.name} does not take this chat's {len(chat.images)} images: {type(error).__name__}.") from error
        finally:
            self.processor.tokenizer = self.tokenizer
        inputs.pop("labels", None)
        return dict(inputs.to(self.device, self.dtype))

    def _template_of(self) -> str | None:
        template: str | None = (self.processor or self.tokenizer).chat_template
        return template

    def _render(self, chat: Chat, placeholders: list[str]) -> str:
        if not self._template_of():
            lines = [PLAIN_ROLES[m.role] + text for m, text in zip(chat.messages, placeholders, strict=True)]
            return "\n".join([*lines, PLAIN_ROLES["assistant"].rstrip()])
        messages = [self._message(m, text) for m, text in zip(chat.messages, placeholders, strict=True)]
        try:
            prompt: str = (self.processor or self.tokenizer).apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program: it raises its own errors, and Jinja's
            raise UserError(f"The chat template of {self.name} does not take this chat (a system message, perhaps).") from error
        if any(prompt.count(text) != 1 for text in placeholders):
            raise UserError(f"The chat template of {self.name} drops or repeats messages of this chat: it cannot be used safely.")
        return prompt

    def _message(self, message: Message, text: str) -> dict[str, Any]:
        if self.processor is None:
            return {"role": message.role, "content": text}
        return {"role": message.role, "content": [*({"type": "image"} for _ in message.images), {"type": "text", "text": text}]}


class Splicing:
    """Stands in for a tokenizer: reads control tokens in the prompt's own words and puts in what was said as plain text.

    `said` maps placeholders in the prompt to texts.
    """

    def __init__(self, tokenizer: Any, plain: PlainText, said: Mapping[str, str]) -> None:
        self._tokenizer = tokenizer
        self._plain = plain
        self._said = said
        self._places = re.compile("|".join(map(re.escape, said)))

    def __call__(self, text: str | list[str], add_special_tokens: bool = True, **_: Any) -> BatchEncoding:
        """`input_ids` and `attention_mask` as lists; padding and truncation are never wanted for one prompt."""
        rows = [self.ids(row, add_special_tokens) for row in ([text] if isinstance(text, str) else text)]
        # Some processors ask how many tokens an image's slots take (`char_to_token`); the placeholders do not change that.
        offsets = self._tokenizer(text, add_special_tokens=add_special_tokens).encodings
        masks = [[1] * len(row) for row in rows]
        if isinstance(text, str):
            return BatchEncoding({"input_ids": rows[0], "attention_mask": masks[0]}, encoding=offsets)
        return BatchEncoding({"input_ids": rows, "attention_mask": masks}, encoding=offsets)

    def ids(self, prompt: str, add_special_tokens: bool) -> list[int]:
        """Token ids of the prompt with everything said in its place."""
        return [*(self._plain.bos if add_special_tokens else ()), *self._plain.ids(self._segments(prompt))]

    def _segments(self, prompt: str) -> list[str | Control]:
        own = self._places.split(prompt)
        said = [self._said[place] for place in self._places.findall(prompt)]
        return [piece for i, words in enumerate(own) for piece in (*self._plain.parse(words), *said[i : i + 1])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _sees(folder: Path, config: Any) -> bool:
    """Whether the checkpoint is a vision-language model; raises `CheckpointError` for what is no language model at all."""
    names = config.architectures or [MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)]
    if any(name in names for name in _values(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)):
        return True
    if any(name in names for name in _values(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
        return False
    raise CheckpointError(f"{folder} ({config.model_type}) is neither a vision-language nor a language model that answers.")


def _values(names: Mapping[str, str | tuple[str, ...]]) -> set[str]:
    return {name for value in names.values() for name in ((value,) if isinstance(value, str) else value)}


def _try(folder: Path, read: Callable[..., Any], **options: Any) -> Any:
    """`read(folder)`, its failures in a sentence."""
    try:
        return read(folder, trust_remote_code=False, local_files_only=True, **options)
    except LlavaError:
        raise
    except ImportError as error:
        package = re.search(
            r"(?i)torchvision|flash.?attn|num2words|sentencepiece|\b(?!(?:the|a|this)\b)\w+(?= library| package)", str(error)
        )
        what = package.group() if package else "a package that is not installed"
        raise UserError(
            f"{folder} needs {what}: install it (pip install {package.group() if package else '...'}) and try again."
        ) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(f"{folder} does not fit into memory: use a smaller model, or dtype bfloat16.") from error
    except UNREADABLE as error:
        if "attn_implementation" in str(error) or "attention" in str(error).lower():
            raise UserError(f"{folder} does not run with this attn_implementation: leave it out, or use sdpa or eager.") from error
        if "trust_remote_code" in str(error):
            raise CheckpointError(f"{folder} needs code of its own, which is never executed: use a model of transformers.") from error
        raise CheckpointError(f"{folder} cannot be read as a transformers checkpoint ({type(error).__name__}): copy it again.") from error
