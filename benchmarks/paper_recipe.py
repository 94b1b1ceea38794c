"""The paper's training recipe as a plain eager loop: what `tokenizer_step` holds the training step to."""

from collections import defaultdict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from common.training import learning_rate
from stage1_tokenizer import ImageTokenizer
from stage1_tokenizer.images.losses import discriminator_hinge, generator_hinge
from stage1_tokenizer.images.training import TrainImageTokenizerConfig
from stage1_tokenizer.quantizers import SimVQ

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class DenseSimVQ(nn.Module):
    """SimVQ as its paper writes it: all N x K distances, and a codebook that has a gradient as a whole."""

    def __init__(self, quantizer: SimVQ) -> None:
        super().__init__()
        self.beta = quantizer.config.beta
        self.embedding = nn.Embedding.from_pretrained(quantizer.basis.clone())
        self.projection = nn.Linear(quantizer.config.code_dim, quantizer.config.code_dim)
        self.projection.load_state_dict(quantizer.projection.state_dict())

    def forward(self, latents: Float[Tensor, "b d h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """The chosen vectors with the straight-through gradient, their codes, and the loss."""
        z = latents.permute(0, 2, 3, 1).contiguous()
        flat = z.flatten(0, 2)
        codebook = self.projection(self.embedding.weight)
        distances = (
            flat.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * flat @ codebook.T
        )
        codes = distances.argmin(1)
        chosen = F.embedding(codes, codebook).view(z.shape)
        loss = F.mse_loss(chosen, z.detach()) + self.beta * F.mse_loss(z, chosen.detach())
        chosen = z + (chosen - z).detach()
        return chosen.permute(0, 3, 1, 2).contiguous(), codes, loss


class PlainTraining:
    """Trains the given encoder, decoder and discriminator themselves, and a copy of the quantizer."""

    def __init__(
        self,
        config: TrainImageTokenizerConfig,
        tokenizer: ImageTokenizer,
        discriminator: nn.Module | None,
        precision: str,
        device: torch.device,
    ) -> None:
        assert isinstance(tokenizer.quantizer, SimVQ)
        self.config, self.device, self.dtype = config, device, DTYPES[precision]
        self.encoder, self.decoder = tokenizer.encoder, tokenizer.decoder
        self.quantizer = DenseSimVQ(tokenizer.quantizer).to(device)
        self.discriminator = discriminator
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        mapping = list(self.quantizer.projection.parameters())
        self.trained = [*networks, *mapping]
        groups = [
            {"params": networks, "weight_decay": config.optim.weight_decay},
            {"params": mapping, "weight_decay": 0.0, "lr": config.quantizer_lr},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas)
        if discriminator is not None:
            self.discriminator_optimizer = torch.optim.AdamW(
                discriminator.parameters(),
                lr=config.loss.discriminator_lr,
                betas=config.optim.betas,
                weight_decay=0.0,
            )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.averaged = [p.detach().clone() for p in self.trained]
        self.usage: defaultdict[int, int] = defaultdict(int)

    def step(self, images: Float[Tensor, "b c y x"], step: int) -> dict[str, float]:
        """One step of all networks: losses, averages and counts."""
        weights = self.config.loss
        scheduled = learning_rate(step, self.config.steps, self.config.optim)
        self.optimizer.param_groups[0]["lr"] = scheduled
        with self.autocast():
            latents, codes, quantizer_loss = self.quantizer(self.encoder(images))
            decoded = self.decoder(latents)
            l1 = weights.l1_weight * F.l1_loss(decoded.float(), images)
            loss = l1 + quantizer_loss
            logged = {"l1": l1.item(), "quantizer": quantizer_loss.item()}
            if self.discriminator is not None:
                adversarial = generator_hinge(self.discriminator(decoded))
                loss = loss + weights.adversarial_weight * adversarial
                logged["adversarial"] = weights.adversarial_weight * adversarial.item()
        self.descend(self.optimizer, loss, self.trained)
        if self.discriminator is not None:
            share = weights.discriminator_lr / self.config.optim.lr
            self.discriminator_optimizer.param_groups[0]["lr"] = share * scheduled
            with self.autocast():
                real, fake = self.discriminator(images), self.discriminator(decoded.detach())
                loss = discriminator_hinge(real, fake)
            # the generator's loss left a gradient here
            self.discriminator_optimizer.zero_grad()
            self.descend(self.discriminator_optimizer, loss, list(self.discriminator.parameters()))
            logged["discriminator"] = loss.item()
        self.scaler.update()
        self.note(codes)
        return logged

    def autocast(self) -> torch.autocast:
        """The networks' precision."""
        mixed = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if mixed else None, enabled=mixed)

    def descend(
        self, optimizer: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter]
    ) -> None:
        """Backward, clipping and the optimizer's step."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, self.config.optim.grad_clip)
        self.scaler.step(optimizer)

    @torch.no_grad()
    def note(self, codes: Tensor) -> None:
        """The averaged weights, one by one, and how often each code was chosen."""
        decay = self.config.ema_decay
        for mean, live in zip(self.averaged, self.trained, strict=True):
            mean.mul_(decay).add_(live, alpha=1 - decay)
        for code in codes.tolist():
            self.usage[code] += 1
