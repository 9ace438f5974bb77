"""SentencePiece tokenizers of the Llama family, giving the ids that LLaVA was trained with.

transformers 5 reads `tokenizer.model` into a tokenizers-backed BPE whose ids differ from the slow LlamaTokenizer of
transformers 4.37 around control tokens and line starts (the lone "▁" beside an image). `LlamaTokenizer` here is that slow
tokenizer again, on transformers' own SentencePiece base class. `PlainText` encodes text in which nothing is a control token.
Nothing here knows a prompt template or a model.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from transformers import AddedToken
from transformers.tokenization_utils_sentencepiece import SPIECE_UNDERLINE, SentencePieceBackend


@dataclass(frozen=True, slots=True)
class Control:
    """A control token by its name, for example `</s>`. Only templates make these, never a user's text."""

    token: str


class LlamaTokenizer(SentencePieceBackend):
    """LLaVA's tokenizer: one BOS first, SentencePiece pieces, added tokens cut out before.

    `legacy` (a setting of the checkpoint) decides about text after a control token: true puts "▁" before it, false does not.
    """

    padding_side = "right"
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (transformers' own name and type)

    def __init__(self, **settings: Any) -> None:
        tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        defaults = {"legacy": True, "clean_up_tokenization_spaces": False, "token_type_ids_pattern": "all_zeros"}
        settings = {**tokens, **defaults, **settings}
        pattern = {(True, False): "bos", (True, True): "bos_eos", (False, True): "eos", (False, False): "none"}
        adds = bool(settings.get("add_bos_token", True)), bool(settings.get("add_eos_token", False))
        super().__init__(**settings, special_tokens_pattern=pattern[adds])  # type: ignore[no-untyped-call]

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:  # type: ignore[override]  # as its base class has it
        """The pieces of a text as strings; added tokens in it are read as such."""
        if self.legacy or not text:
            return list(super().tokenize(text, **kwargs))
        return self.without_lone_prefix(super().tokenize(SPIECE_UNDERLINE + text.replace(SPIECE_UNDERLINE, " "), **kwargs))

    def without_lone_prefix(self, tokens: list[str]) -> list[str]:
        """Drop the "▁" that was put before the text where it stands alone before a control token."""
        alone = len(tokens) > 1 and tokens[0] == SPIECE_UNDERLINE and tokens[1] in self.all_special_tokens
        return tokens[1:] if alone else tokens

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of pieces; the space that tokenizing put first is taken away again."""
        if tokens and tokens[0].startswith(SPIECE_UNDERLINE):
            tokens = [tokens[0][1:], *tokens[1:]]
        text = ""
        pieces: list[str] = []
        for i, token in enumerate(tokens):
            if token not in self._added_tokens_encoder:
                pieces.append(token)
                continue
            # In legacy mode a control token is followed by a put-in space, which SentencePiece's decoding has dropped.
            text += (" " if pieces and i and self.legacy else "") + self.sp_model.decode(pieces) + token
            pieces = []
        return text + str(self.sp_model.decode(pieces))


@dataclass(frozen=True)
class PlainText:
    """Encodes text and control tokens so that no text, whatever it says, becomes a control token.

    `ids` of segments equals what the tokenizer itself gives for the joined string whenever the text holds no control token's name.
    """

    tokenizer: Any

    def ids(self, segments: Sequence[str | Control]) -> list[int]:
        """Token ids without BOS; `segments` are text and control tokens in order."""
        merged = _merge(segments)
        if isinstance(self.tokenizer, LlamaTokenizer):
            return self._sentencepiece(merged)
        return self._fast(merged)

    @cached_property
    def controls(self) -> frozenset[str]:
        """Names of the control tokens: special tokens, and added tokens that look like markers.

        Other added tokens of fast tokenizers are words (Gemma's runs of newlines): transformers reads them in any text, and so does this.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        words = not isinstance(self.tokenizer, LlamaTokenizer)
        return frozenset(token.content for token in added if not (words and _is_word(token)))

    @cached_property
    def _names(self) -> re.Pattern[str]:
        names = sorted(self.controls, key=lambda name: (-len(name), name))
        return re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def parse(self, text: str) -> list[str | Control]:
        """Trusted text (a template's own words) with the names in it read as control tokens."""
        found = [Control(match) for match in self._names.findall(text)]
        plain = self._names.split(text)
        return [piece for i, words in enumerate(plain) for piece in (words, *found[i : i + 1]) if piece]

    @property
    def bos(self) -> list[int]:
        """What the tokenizer puts before every text: `[bos]` or nothing."""
        ids = self.tokenizer("").input_ids
        return [self.tokenizer.bos_token_id] if ids[:1] == [self.tokenizer.bos_token_id] else []

    def _sentencepiece(self, segments: list[str | Control]) -> list[int]:
        tokenizer, to_id = self.tokenizer, self.tokenizer.sp_model.piece_to_id
        ids: list[int] = []
        for i, segment in enumerate(segments):
            if isinstance(segment, Control):
                if i == 0 and not tokenizer.legacy and segment.token not in tokenizer.all_special_tokens:
                    ids.append(to_id(SPIECE_UNDERLINE))  # see `without_lone_prefix`
                ids.append(tokenizer.convert_tokens_to_ids(segment.token))
            else:
                prefix = SPIECE_UNDERLINE if i == 0 else ""
                text = segment if tokenizer.legacy else prefix + segment.replace(SPIECE_UNDERLINE, " ")
                ids += [to_id(piece) for piece in tokenizer._tokenize(text)]
        return ids

    @cached_property
    def _renamed(self) -> tuple[Any, dict[str, str], dict[int, int]]:
        """A twin of a fast tokenizer whose control tokens have names that nobody can guess; the names; its ids of them to the real ones."""
        nonce = secrets.token_hex(16)
        names = {name: f"\ue000{nonce}{i}\ue001" for i, name in enumerate(sorted(self.controls))}
        backend = self.tokenizer.backend_tokenizer
        twin = type(backend).from_str(json.dumps(_without_names(json.loads(backend.to_str()), names)))
        twin.no_truncation()
        twin.no_padding()
        for _, token in sorted(self.tokenizer.added_tokens_decoder.items()):
            if token.content not in names:
                twin.add_tokens([token])
                continue
            flags = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
            twin.add_special_tokens([AddedToken(names[token.content], normalized=False, special=True, **flags)])
        ids = {name: twin.token_to_id(names.get(name, name)) for name in self.tokenizer.get_added_vocab()}
        return twin, names, {twin_id: self.tokenizer.convert_tokens_to_ids(name) for name, twin_id in ids.items()}

    def _fast(self, segments: list[str | Control]) -> list[int]:
        twin, names, real = self._renamed
        text = "".join(segment if isinstance(segment, str) else names[segment.token] for segment in segments)
        return [real.get(i, i) for i in twin.encode(text, add_special_tokens=False).ids]


def _is_word(token: AddedToken) -> bool:
    return not token.special and not set("<>[]|") & set(token.content)


def _without_names(state: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A fast tokenizer's state in which `names` are renamed in the vocabulary too: some models match any piece of it in text."""
    model = state["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): token_id for piece, token_id in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return {**state, "added_tokens": [], "post_processor": None}


def _merge(segments: Sequence[str | Control]) -> list[str | Control]:
    merged: list[str | Control] = []
    for segment in segments:
        if isinstance(segment, str):  # halves of surrogate pairs go: no tokenizer takes them
            segment = segment.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if segment == "":
            continue
        if merged and isinstance(segment, str) and isinstance(merged[-1], str):
            merged[-1] += segment
        else:
            merged.append(segment)
    return merged
