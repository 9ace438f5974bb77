"""The model class behind LLaVA's public interface: transformers' LlavaForConditionalGeneration that also takes LLaVA's arguments.

LLaVA's users call `model.generate(input_ids, images=..., image_sizes=...)` with -200 for each image and get `<s>` plus the new
tokens, and `model(input_ids, images=..., labels=...)`; everything else is transformers' own. Knows no files and no templates.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration
from transformers.utils.generic import ModelOutput

from llava.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from llava.errors import ContextTooLong, UserError
from llava.model.loaded import expand_image_slots, image_tokens

Images = Tensor | Sequence[Tensor] | None
_NOT_GIVEN: Any = object()


class LlavaLlamaForCausalLM(LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """A LLaVA model on a Llama-like language model (Vicuna, Llama 2, Mistral).

    `image_token_id` lies just behind the vocabulary: the input embedding has one row more than `lm_head`, so that a model can
    neither say an image token nor be asked with one by text. (Checkpoints in transformers' layout keep their own image token.)
    """

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> NoReturn:
        """Raises `UserError`: transformers' reader takes neither layout for this class and would leave weights random."""
        raise UserError(
            "LLaVA checkpoints are loaded by load_pretrained_model(path, None, name) of llava.model.builder, which also gives the "
            "tokenizer and the image processor."
        )

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """transformers' own, so that its classes and ours read the folder (tokenizer and image processor are saved apart).

        Raises `UserError` for a model from the original's layout: transformers' layout wants an image token in the vocabulary.
        """
        words: Any = self.get_input_embeddings()
        if words.num_embeddings != self.config.get_text_config().vocab_size:
            raise UserError(
                "A model from LLaVA's own layout has no image token in its vocabulary, which transformers' layout needs: keep the "
                "checkpoint's folder, and changed weights with torch.save(model.state_dict(), ...)."
            )
        plain: Any = copy.copy(self)
        plain.__class__ = LlavaForConditionalGeneration  # transformers names stored weights by the class's own name
        plain.save_pretrained(save_directory, **kwargs)

    def forward(self, input_ids: Any = None, *args: Any, images: Images = _NOT_GIVEN, image_sizes: Any = None, **kwargs: Any) -> Any:
        """transformers' `forward`; or LLaVA's where `images` is passed, for `input_ids` (1, N) with -200 for each image.

        `images` are pixels (n, 3, H, W), through which gradients flow; `labels` (1, N), if any, are of the same positions. Logits are those
        of the N + n (P - 1) positions that the model sees, where an image takes P. Raises `UserError` when images and -200s differ in
        number.
        """
        forward: Any = super().forward
        if images is _NOT_GIVEN:
            return forward(input_ids, *args, **kwargs)
        expanded, pixels = self._expanded(input_ids, images)
        if pixels is None:
            return forward(expanded, *args, **kwargs)
        if (labels := kwargs.get("labels")) is not None:
            kwargs["labels"] = self._expanded_labels(labels, input_ids == IMAGE_TOKEN_INDEX)
        return forward(expanded, *args, pixel_values=pixels, **{**kwargs, "attention_mask": torch.ones_like(expanded)})

    forward.__signature__ = inspect.signature(LlavaForConditionalGeneration.forward)  # type: ignore[attr-defined]  # transformers reads it

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, images: Images = _NOT_GIVEN, image_sizes: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """transformers' `generate`; or LLaVA's where `images` is passed, be it None, for `inputs` (1, N) with -200 for each image.

        `images` are pixels (n, 3, H, W); `image_sizes` is not needed. LLaVA's form gives (1, 1 + new) ids that start with BOS, as
        `sequences` where `return_dict_in_generate` is set; raises `UserError` when images and -200s differ in number and
        `ContextTooLong` beyond `tokenizer_model_max_length`, where the original cuts the question off.
        """
        generate: Any = super().generate  # type: ignore[misc]  # its protocol wants a read-only `config`
        if images is _NOT_GIVEN:
            ids = kwargs.get("input_ids", inputs)
            if ids is not None and ids.eq(IMAGE_TOKEN_INDEX).any():
                raise UserError("The ids hold -200, which stands for an image: give the pixels too, images=process_images(...).")
            return generate(inputs, **kwargs)
        expanded, pixels = self._expanded(kwargs.pop("input_ids", inputs), images)
        kwargs.pop("attention_mask", None)  # of the unexpanded ids; there is one sequence, so nothing is padded
        limit = getattr(self.config, "tokenizer_model_max_length", None)
        if limit is not None and expanded.shape[1] > limit:
            raise ContextTooLong(expanded.shape[1], 0, limit)
        new = generate(inputs_embeds=self._embeddings(expanded, pixels), attention_mask=torch.ones_like(expanded), **kwargs)
        if isinstance(new, ModelOutput):
            new["sequences"] = self._with_bos(new["sequences"])
            return new
        return self._with_bos(new)

    def encode_images(self, images: Tensor) -> Tensor:
        """Features (n, P, D) of pixels (n, 3, H, W), as the language model sees them: P positions of an image, D its hidden size."""
        return torch.stack(list(self.get_image_features(images.to(self.device, self.dtype)).pooler_output))

    def _expanded(self, ids: Tensor | None, images: Images) -> tuple[Tensor, Tensor | None]:
        """Ids (1, N') with each -200 as the positions that an image takes, and all pixels (n, 3, H, W), None where there are none."""
        if ids is None or ids.shape[0] != 1:
            raise UserError("The model takes the ids of one prompt, shape (1, N), when images are given.")
        pixels = None
        if images is not None and len(images):
            pixels = torch.cat([i.reshape(-1, *i.shape[-3:]) for i in images]).to(self.device, self.dtype)
        return expand_image_slots(ids[0].tolist(), pixels, self.config).to(self.device), pixels

    def _expanded_labels(self, labels: Tensor, slots: Tensor) -> Tensor:
        """Labels (1, N') from labels (1, N), none of them within an image; `slots` (1, N) is true where one stands."""
        slots = slots.to(labels.device)
        counts = torch.where(slots, image_tokens(self.config), 1)
        return labels.masked_fill(slots, IGNORE_INDEX)[0].repeat_interleave(counts[0]).unsqueeze(0)

    def _embeddings(self, ids: Tensor, pixels: Tensor | None) -> Tensor:
        """Embeddings (1, N, D): as in the original, whatever watches generation sees the new tokens only."""
        words: Tensor = self.get_input_embeddings()(ids)
        if pixels is None:
            return words
        features = self.encode_images(pixels).to(words.dtype)
        return words.masked_scatter((ids == self.config.image_token_id).unsqueeze(-1), features)

    def _with_bos(self, new: Tensor) -> Tensor:
        return torch.cat([torch.full_like(new[:, :1], self.config.get_text_config().bos_token_id), new], dim=1)
