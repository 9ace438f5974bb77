"""What LLaVA's scripts call first."""

import torch

from llava.utils import disable_torch_init


def test_layers_of_other_people_keep_their_first_values() -> None:
    disable_torch_init()
    torch.manual_seed(0)
    one = torch.nn.Linear(4, 4).weight
    torch.manual_seed(0)
    assert torch.equal(one, torch.nn.Linear(4, 4).weight)
    assert one.abs().max() <= 0.5  # 1 / sqrt(4), torch's own bound
    assert len(set(one.flatten().tolist())) == 16
