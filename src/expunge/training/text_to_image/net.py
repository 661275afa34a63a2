"""The module that is trained: a denoiser and the text encoder it listens to."""

from __future__ import annotations

from torch import Tensor, nn


class TextToImageNet(nn.Module):
    """Both networks under the names of a diffusers directory: `unet` and `text_encoder`."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """The predicted velocity (B, C, h, h)."""
        words = self.text_encoder(input_ids=tokens).last_hidden_state
        found: Tensor = self.unet(noisy, times, encoder_hidden_states=words).sample
        return found
