"""FC: cosines and unit vectors."""

import torch
import torch.nn.functional as F
from helpers.quantizer_cases import normal

from stage1_tokenizer.quantizers import FC


def test_fc_chooses_by_the_cosine_and_gives_unit_vectors() -> None:
    torch.manual_seed(0)
    fc = FC(codebook_size=50, code_dim=4)
    fc.table.data *= torch.linspace(0.1, 30, 50)[:, None]
    latents = 7 * normal(1, 200, 4)
    out = fc(latents)
    cosine = F.cosine_similarity(latents[0][:, None], fc.table[None], dim=2)
    assert torch.equal(out.codes[0], cosine.argmax(1))
    torch.testing.assert_close(out.latents.norm(dim=-1), torch.ones(1, 200))
    torch.testing.assert_close(fc(latents * 9).losses["codebook"], out.losses["codebook"])
    assert torch.equal(fc.encode(latents * 1e-6), out.codes)
    out.loss.backward()
    across = (fc.table.grad * fc.table).sum(1).detach()
    torch.testing.assert_close(across, torch.zeros(50), atol=1e-6, rtol=0)
