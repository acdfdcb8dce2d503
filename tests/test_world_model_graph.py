"""A training step as a CUDA graph learns what the step itself would have."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from neon_sim.world_model.config import LeWMConfig, lewm_config
from neon_sim.world_model.encoder import VisionEncoder
from neon_sim.world_model.graphed import GraphedStep
from neon_sim.world_model.lewm import LeWM


def test_patches_are_embedded_as_by_a_convolution() -> None:
    encoder = VisionEncoder(LeWMConfig(image_size=32, patch_size=8, dim=32)).double()
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = frames.permute(0, 3, 1, 2).double() / 127.5 - 1.0
    torch.testing.assert_close(encoder._embedded(frames), encoder.patch(pixels).flatten(2).transpose(1, 2))


@pytest.mark.gpu
def test_a_graph_learns_what_the_step_learns() -> None:
    def trained(graph: bool) -> tuple[list[float], dict[str, Tensor]]:
        torch.manual_seed(0)
        config = lewm_config("tiny", action_dim=3, proprio_dim=0, dropout=0.0, sigreg_weight=0.0)
        model = LeWM(config).cuda().train()
        rate = torch.tensor(1e-3, device="cuda")
        optimizer = torch.optim.AdamW(model.parameters(), rate, fused=True, capturable=True)
        generator = torch.Generator("cuda").manual_seed(0)

        def learn(batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
            optimizer.zero_grad(set_to_none=True)
            loss = model.loss(batch["frames"], batch["actions"], None, generator)
            loss.total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return tuple(value.detach() for value in loss)

        step = GraphedStep(learn, generator) if graph else partial(learn)
        source = torch.Generator().manual_seed(1)
        losses = []
        for count in range(12):
            frames = torch.randint(0, 256, (4, 9, 32, 32, 3), dtype=torch.uint8, generator=source)
            actions = torch.rand(4, 8, 3, generator=source)
            rate.fill_(1e-3 / (1 + count))  # a graph has to see that it changes
            losses.append(float(step({"frames": frames.cuda(), "actions": actions.cuda()})[0]))
        return losses, {name: value.cpu() for name, value in model.state_dict().items()}

    (losses, weights), (losses_graph, weights_graph) = trained(False), trained(True)
    assert losses[-1] < losses[0]
    assert losses_graph == pytest.approx(losses, rel=1e-3)
    for name, value in weights.items():
        torch.testing.assert_close(weights_graph[name], value, rtol=1e-2, atol=1e-4)


@pytest.mark.gpu
def test_a_graph_draws_anew_each_time() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    step = GraphedStep(lambda batch: (torch.rand(3, generator=generator, device="cuda") + batch["x"],), generator)
    drawn = {tuple(step({"x": torch.zeros(3, device="cuda")})[0].tolist()) for _ in range(8)}
    assert len(drawn) == 8
