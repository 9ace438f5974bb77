from pathlib import Path

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llava.bench.plain import Plain
from llava.bench.shapes import FIRST_WORD, SHAPES, WORDS, _config, write_checkpoint
from llava.chat import Call, Chat, Sampling
from llava.model.builder import load
from llava.model.loaded import Loaded
from llava.paths import MINI
from tests.factories import image

TOWER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
LANGUAGE = (*TOWER, "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "hidden_act")
VISION = (*TOWER, "image_size", "patch_size")


def test_the_random_model_never_ends_an_answer_by_itself(random_llava: Loaded) -> None:
    said = Plain(random_llava).answer(Call("answer", Chat.ask("What is this?", [image()]), Sampling(max_tokens=40)))
    assert (said.completion_tokens, said.reply.finish_reason) == (40, "length")
    head = random_llava.model.get_output_embeddings().weight
    assert head[:FIRST_WORD].abs().max() == 0 == head[WORDS:].abs().max()
    assert "\ufffd" not in said.reply.text


def test_pictures_change_what_the_random_model_says(random_llava: Loaded) -> None:
    plain = Plain(random_llava)
    texts = {
        plain.answer(Call("answer", Chat.ask("What is this?", [image(c)]), Sampling(max_tokens=20))).reply.text for c in ("red", "blue")
    }
    assert len(texts) == 2


def test_the_checkpoint_is_the_same_each_time(random_tiny: Path, tmp_path: Path) -> None:
    again = write_checkpoint(SHAPES["tiny"], tmp_path / "again")
    for file in random_tiny.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_large_weights_are_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llava.bench.shapes.SHARD", 100_000)
    folder = write_checkpoint(SHAPES["tiny"], tmp_path / "llava-sharded", torch.bfloat16)
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert load(str(folder), device="cpu", dtype="bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "millions", "image_tokens"),
    [("5m", (5, 5.3), 144), ("33m", (32, 34), 576), ("7b", (7000, 7100), 576), ("tiny", (0.2, 0.5), 16)],
)
def test_shapes_have_the_sizes_that_they_are_named_for(shape: str, millions: tuple[float, float], image_tokens: int) -> None:
    config = LlavaConfig(**_config(SHAPES[shape]))
    with torch.device("meta"):
        count = sum(p.numel() for p in LlavaForConditionalGeneration(config).parameters()) / 1e6
    assert millions[0] < count < millions[1]
    assert config.image_seq_length == image_tokens


def test_one_shape_is_the_embedded_models() -> None:
    random, mini = LlavaConfig(**_config(SHAPES["5m"])), LlavaConfig.from_pretrained(MINI)
    for part, names in (("text_config", LANGUAGE), ("vision_config", VISION)):
        one, other = getattr(random, part), getattr(mini, part)
        assert {name: getattr(one, name) for name in names} == {name: getattr(other, name) for name in names}
