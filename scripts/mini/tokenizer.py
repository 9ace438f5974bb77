"""The tokenizer of `mini`: SentencePiece BPE with byte fallback, and the same tokenizer in Hugging Face's format.

Both give the same ids for the same text (tests/test_mini.py), whether a prompt is tokenized whole or in the
pieces around "<image>": no space is added or removed anywhere, and a line break is a token of its own.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from llava.conversation import conv_templates
from scripts.mini.dialogues import image_dialogues, text_dialogues
from scripts.mini.phrases import GENERAL
from scripts.mini.scenes import draw_scene
from scripts.mini.words import COMMON

PIECES = 1590
IMAGE_ID, PAD_ID, ROWS = PIECES, PIECES + 1, 1600
SYSTEM = conv_templates["vicuna_v1"].system
CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='" + SYSTEM.replace("'", "\\'") + "', turns=messages) -%}"
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- set ns.turns = messages[1:] -%}{%- set content = messages[0]['content'] -%}"
    "{%- set ns.system = content if content is string else content | map(attribute='text') | join(' ') -%}"
    "{%- endif -%}"
    "{{- ns.system + ' ' -}}"
    "{%- for message in ns.turns -%}"
    "{{- 'USER: ' if message['role'] == 'user' else 'ASSISTANT: ' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] if part['type'] in ('image', 'image_url') -%}{{- '<image>\\n' -}}{%- endfor -%}"
    "{%- set texts = namespace(first=true) -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{{- part['text'] if texts.first else '\\n' + part['text'] -}}{%- set texts.first = false -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- ' ' if message['role'] == 'user' else '</s>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)


def corpus(seed: int) -> Iterator[str]:
    """Texts to learn pieces from: training dialogues, everyday words, every printable character."""
    rng = random.Random(f"tokenizer{seed}")
    for _ in range(6000):
        turns = [t for d in image_dialogues(rng, draw_scene(rng, False), 3) + text_dialogues(rng, 2) for t in d]
        for turn in turns:
            yield from (f" {line}" for text in (turn.user, turn.answer) for line in text.split("\n") if line)
    for wordings, answer in GENERAL * 20:
        yield " ".join((*wordings, answer))
    for _ in range(300):
        yield f"{SYSTEM} USER: ASSISTANT: "
        yield "".join(map(chr, range(32, 127)))
    words = COMMON.split()
    for _ in range(30):
        rng.shuffle(words)
        yield " " + " ".join(words)


def train_tokenizer(folder: Path, seed: int) -> None:
    """Write tokenizer.model, tokenizer.json, tokenizer_config.json and the chat template into `folder`."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=corpus(seed), model_writer=model, vocab_size=PIECES, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, split_digits=True, normalization_rule_name="identity", add_dummy_prefix=False,
        remove_extra_whitespaces=False, user_defined_symbols=["\n"], bos_id=1, eos_id=2, unk_id=0, pad_id=-1,
        minloglevel=2, num_threads=1,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_huggingface(folder)


def write_huggingface(folder: Path) -> None:
    """The same pieces as Hugging Face's tokenizer.json; merges are the pairs whose union is a piece, best first."""
    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    merges = []
    for piece, index in vocab.items():
        if sp.is_byte(index) or sp.is_control(index) or sp.is_unknown(index) or piece == "\n":
            continue
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        merges += [(index, vocab[left], vocab[right], left, right) for left, right in pairs]
    merges.sort()
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[m[3:] for m in merges], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>", "<image>", "<pad>")])
    if tokenizer.token_to_id("<image>") != IMAGE_ID or tokenizer.token_to_id("<pad>") != PAD_ID:
        raise ValueError("the added tokens did not get the ids that follow the pieces")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "extra_special_tokens": {"image_token": "<image>"}, "model_max_length": 2048,
        "padding_side": "left", "clean_up_tokenization_spaces": False, "add_bos_token": True,
        "processor_class": "LlavaProcessor",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
