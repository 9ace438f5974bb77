"""LLaVA's own checkpoint layout, mapped onto transformers' LlavaForConditionalGeneration while it is read.

The language model and the projector lie in the shards, the vision tower in a folder or repository of its own (`mm_vision_tower`).
The model is built on the meta device and filled file by file, so that loading needs little more memory than the weights.
Sources: haotian-liu/LLaVA `llava/model`; transformers `convert_llava_weights_to_hf.py` for the names. Knows no prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig, MistralConfig

from llava.constants import DEFAULT_IM_END_TOKEN, DEFAULT_IM_START_TOKEN, DEFAULT_IMAGE_PATCH_TOKEN
from llava.errors import CheckpointError, UserError
from llava.model import huggingface, shards
from llava.model.failures import UNREADABLE, first_line
from llava.model.filling import add_image_row, empty_model, fill, read, vision_prefix
from llava.model.folder import here, read_json, resolve
from llava.model.language_model.llava_llama import LlavaLlamaForCausalLM
from llava.model.options import How
from llava.model.tokenizer import LlamaTokenizer

_TEXT_CONFIGS: dict[str, Any] = {"LlavaLlamaForCausalLM": LlamaConfig, "LlavaMistralForCausalLM": MistralConfig}
_PROJECTORS = {"mlp2x_gelu": "gelu"}
_FEATURES: dict[str, Any] = {"patch": "default", "cls_patch": "full"}
# Settings of the original that the rest of the package reads from `model.config` under LLaVA's names.
_KEPT: tuple[str, ...] = (
    "image_aspect_ratio",
    "mm_use_im_start_end",
    "mm_use_im_patch_token",
    "mm_vision_tower",
    "tokenizer_model_max_length",
)
_KEPT += ("mm_projector_type", "mm_vision_select_layer", "mm_vision_select_feature", "max_sequence_length")

_TOWER_PREFIX = "model.vision_tower.vision_tower."
_RENAMES = (
    (re.compile(r"^model\.mm_projector\.0\."), "model.multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "model.multi_modal_projector.linear_2."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\."), r"model.language_model.\1."),
)


@dataclass(frozen=True)
class Original:
    """A checkpoint folder in LLaVA's layout, its config and the folder of its vision tower."""

    folder: Path
    config: Mapping[str, Any]
    tower: Path

    @classmethod
    def open(cls, folder: Path) -> Original:
        """Read the configs; raises `CheckpointError` for settings that are not supported and for a missing tower."""
        config = read_json(folder / "config.json")
        kind = config.get("mm_projector_type", "linear")
        if not isinstance(kind, str) or kind not in _PROJECTORS:
            raise CheckpointError(f"{folder} has a projector of type {kind!r}: only {', '.join(_PROJECTORS)} is supported (LLaVA 1.5).")
        if not config.get("mm_vision_tower"):
            raise CheckpointError(f"{folder}/config.json names no mm_vision_tower: it is not a LLaVA model.")
        return cls(folder, config, _tower_folder(folder, str(config["mm_vision_tower"])))

    def hf_config(self) -> LlavaConfig:
        """The same model as transformers describes it; LLaVA's own settings stay readable under their names."""
        vision = read_json(self.tower / "config.json")
        try:
            vision_config: Any = CLIPVisionConfig(**vision.get("vision_config", vision))
            text_config = self._text_config()
            return LlavaConfig(
                vision_config=vision_config,
                text_config=text_config,
                image_token_index=text_config.vocab_size,
                image_seq_length=(vision_config.image_size // vision_config.patch_size) ** 2,
                projector_hidden_act=_PROJECTORS[self.config["mm_projector_type"]],
                vision_feature_layer=self._feature_layer(vision_config.num_hidden_layers),
                vision_feature_select_strategy=self._feature_strategy(),
                tie_word_embeddings=bool(self.config.get("tie_word_embeddings", False)),
                **{key: self.config[key] for key in _KEPT if self.config.get(key) is not None},
            )
        except UNREADABLE as error:
            reason = first_line(error)
            raise CheckpointError(f"{self.folder}/config.json or that of its vision tower does not describe a model ({reason}).") from error

    def _feature_layer(self, layers: int) -> int:
        layer = int(self.config.get("mm_vision_select_layer", -2))
        if not -layers - 1 <= layer <= layers:
            raise CheckpointError(f"{self.folder} takes features of layer {layer} of a vision tower with {layers} layers.")
        return layer

    def _feature_strategy(self) -> Any:
        feature = self.config.get("mm_vision_select_feature", "patch")
        if feature not in _FEATURES:
            raise CheckpointError(f"{self.folder} has mm_vision_select_feature {feature!r}: only {', '.join(_FEATURES)} are supported.")
        return _FEATURES[feature]

    def _text_config(self) -> Any:
        architecture = next(iter(self.config.get("architectures") or ["LlavaLlamaForCausalLM"]))
        if architecture not in _TEXT_CONFIGS:
            raise CheckpointError(f"{self.folder} is a {architecture}; supported are {', '.join(_TEXT_CONFIGS)}.")
        kind = _TEXT_CONFIGS[architecture]
        known = {key: value for key, value in self.config.items() if key in kind.__dataclass_fields__ and key != "model_type"}
        for key in ("torch_dtype", "dtype", "architectures", "transformers_version", "max_length"):
            known.pop(key, None)
        for key in ("rope_theta", "rope_scaling"):
            if self.config.get(key) is not None:
                known[key] = self.config[key]
        return kind(**known)

    def load_tokenizer(self) -> Any:
        """The tokenizer with LLaVA's own image tokens added where the config wants them; raises `CheckpointError`."""
        if not (self.folder / "tokenizer.model").exists() and not (self.folder / "tokenizer.json").exists():
            raise CheckpointError(f"{self.folder} has no tokenizer.model: copy it from the checkpoint (or from its base model).")
        if (self.folder / "tokenizer.model").exists() and not self._is_mistral:
            tokenizer = _sentencepiece_tokenizer(self.folder)
        else:  # LLaVA reads Mistral's with the fast tokenizer
            tokenizer = huggingface.load_tokenizer(self.folder)
        if self.config.get("mm_use_im_patch_token"):
            tokenizer.add_tokens([DEFAULT_IMAGE_PATCH_TOKEN], special_tokens=True)
        if self.config.get("mm_use_im_start_end"):
            tokenizer.add_tokens([DEFAULT_IM_START_TOKEN, DEFAULT_IM_END_TOKEN], special_tokens=True)
        return tokenizer

    def load_image_processor(self) -> Any:
        """The vision tower's image processor."""
        return huggingface.load_image_processor(self.tower)

    @property
    def _is_mistral(self) -> bool:
        return "LlavaMistralForCausalLM" in (self.config.get("architectures") or ())

    def generation_config(self) -> GenerationConfig:
        """BOS, EOS and padding ids; sampling settings in the file are left to the caller, as LLaVA's callers do."""
        path = self.folder / "generation_config.json"
        settings = read_json(path) if path.exists() else {}
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {name: settings.get(name, self.config.get(name)) for name in names}
        return GenerationConfig(**ids)  # type: ignore[no-untyped-call]

    def load(self, how: How) -> LlavaLlamaForCausalLM:
        """The model in eval mode, its weights read straight to the wanted device and dtype."""
        model = empty_model(self.hf_config(), how, image_row=True)
        if how.quantization is None:
            fill(model, self.tensors(model), how, where=self.folder)
        else:  # transformers' own reader quantises; the image token's row is put to it afterwards
            model = huggingface.read_weights(self.folder, how, state=dict(self.tensors(model)), config=model.config)
            add_image_row(model)
        model.generation_config = self.generation_config()
        model.train(False)
        return model

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """All tensors under the names of `model`; each is valid until the next is taken."""
        expected = model.state_dict().keys()
        vision = vision_prefix(expected)
        files = shards.weight_files(self.folder)
        stored = {path: shards.keys(path, listed) for path, listed in files.items()}
        every = [name for names in stored.values() for name in names]
        own_tower = bool(self.config.get("unfreeze_mm_vision_tower")) and any(name.startswith(_TOWER_PREFIX) for name in every)
        projector = self.folder / "mm_projector.bin"
        if not any(name.startswith("model.mm_projector.") for name in every) and projector.exists():
            stored[projector] = shards.keys(projector)
        for path, names in stored.items():
            renamed = {name: rename(name, vision if own_tower else None) for name in names}
            yield from read(path, {old: new for old, new in renamed.items() if new})
        if not own_tower:
            for path, listed in shards.weight_files(self.tower).items():
                tower = {name: rename(_TOWER_PREFIX + name, vision) for name in shards.keys(path, listed)}
                yield from read(path, {old: new for old, new in tower.items() if new in expected and new})


def rename(name: str, vision: str | None) -> str | None:
    """transformers' name of a tensor of the original; None for what is left out (`inv_freq`, a tower that lies elsewhere).

    `vision` is the prefix of the vision tower's tensors in the model, None to leave the tower out.
    """
    if name.endswith((".inv_freq", ".position_ids")) or name == "model.image_newline":
        return None
    if name.startswith("model.vision_tower."):
        return vision + name.removeprefix(_TOWER_PREFIX).removeprefix("vision_model.") if vision else None
    for pattern, new in _RENAMES:
        name = pattern.sub(new, name)
    return name


def _sentencepiece_tokenizer(folder: Path) -> LlamaTokenizer:
    try:
        tokenizer: LlamaTokenizer = LlamaTokenizer.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"The tokenizer in {folder} is damaged ({type(error).__name__}). Copy its files again.") from error
    return tokenizer


def _tower_folder(folder: Path, tower: str) -> Path:
    """The vision tower's folder: as named, beside the checkpoint's files, beside its folder, or from the hub."""
    for candidate in (tower, folder / tower, folder.parent / tower):
        if (found := here(candidate)) is not None and (found / "config.json").is_file():
            return found
    try:
        return resolve(tower, tower=True)
    except UserError as error:
        raise CheckpointError(
            f"The vision tower {tower} of {folder} is missing. Put its folder beside the checkpoint, "
            f"or write its path as mm_vision_tower into config.json. ({error})"
        ) from error
