"""The model class behind LLaVA's public interface: transformers' LlavaForConditionalGeneration that also takes LLaVA's arguments.

LLaVA's users call `model.generate(input_ids, images=..., image_sizes=...)` with -200 for each image and get `<s>` plus the new
tokens; everything else is transformers' own. Knows no files and no templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from llava.errors import ContextTooLong, UserError
from llava.model.loaded import expand_image_slots

Images = Tensor | Sequence[Tensor] | None
_NOT_GIVEN: Any = object()


class LlavaLlamaForCausalLM(LlavaForConditionalGeneration):  # type: ignore[no-untyped-call]
    """A LLaVA model on a Llama-like language model (Vicuna, Llama 2, Mistral).

    `image_token_id` lies just behind the vocabulary: the input embedding has one row more than `lm_head`, so that a model can
    neither say an image token nor be asked with one by text. (Checkpoints in transformers' layout keep their own image token.)
    """

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, images: Images = _NOT_GIVEN, image_sizes: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """transformers' `generate`; or LLaVA's where `images` is passed, be it None, for `inputs` (1, N) with -200 for each image.

        `images` are pixels (n, 3, H, W); `image_sizes` is not needed. LLaVA's form gives (1, 1 + new) ids that start with BOS; raises
        `UserError` when images and -200s differ in number and `ContextTooLong` beyond `tokenizer_model_max_length`, where the original
        cuts the question off.
        """
        generate: Any = super().generate  # type: ignore[misc]  # its protocol wants a read-only `config`
        if images is _NOT_GIVEN:
            return generate(inputs, **kwargs)
        ids = kwargs.pop("input_ids", inputs)
        kwargs.pop("attention_mask", None)  # of the unexpanded ids; there is one sequence, so nothing is padded
        if ids is None or ids.shape[0] != 1:
            raise UserError("generate takes the ids of one prompt, shape (1, N), when images are given.")
        pixels = None if images is None else torch.cat([i.reshape(-1, *i.shape[-3:]) for i in images]).to(self.device, self.dtype)
        expanded = expand_image_slots(ids[0].tolist(), pixels, self.config).to(self.device)
        limit = getattr(self.config, "tokenizer_model_max_length", None)
        if limit is not None and expanded.shape[1] > limit:
            raise ContextTooLong(expanded.shape[1], 0, limit)
        new = generate(inputs_embeds=self._embeddings(expanded, pixels), attention_mask=torch.ones_like(expanded), **kwargs)
        bos = torch.full_like(new[:, :1], self.config.get_text_config().bos_token_id)
        return torch.cat([bos, new], dim=1)

    def _embeddings(self, ids: Tensor, pixels: Tensor | None) -> Tensor:
        """Embeddings (1, N, D): as in the original, whatever watches generation sees the new tokens only."""
        words: Tensor = self.get_input_embeddings()(ids)
        if pixels is None or not len(pixels):
            return words
        features = torch.cat(list(self.get_image_features(pixels).pooler_output)).to(words.dtype)
        return words.masked_scatter((ids == self.config.image_token_id).unsqueeze(-1), features)
