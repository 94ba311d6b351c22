"""Random views of a picture: what a training image may look like without showing something else."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)


def random_view(picture: torch.Tensor, side: int, rng: torch.Generator, smallest: float = 0.2) -> torch.Tensor:
    """A turned, mirrored, stretched part of a picture.

    Args:
        picture: (3, height, width) uint8.
        side: pixels of the result.
        rng: decides everything.
        smallest: least share of the largest square that is shown.

    Returns:
        (3, side, side) float32, 0–255.
    """
    height, width = picture.shape[1:]
    u = torch.rand(8, generator=rng).tolist()
    short = min(height, width)
    extent = short * math.sqrt(smallest + (1.05 - smallest) * u[0])
    stretch = math.exp((u[1] - 0.5) * 0.5)
    half_x, half_y = extent * stretch / width, extent / stretch / height  # of the frame, whose half is 1
    angle = math.radians((u[2] - 0.5) * 60 + 90 * int(u[3] * 4))
    centre_x, centre_y = (2 * u[4] - 1) * max(0.0, 1 - half_x), (2 * u[5] - 1) * max(0.0, 1 - half_y)
    mirror = -1.0 if u[6] < 0.5 else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    # The frame isn't square: turn in pixels, then divide by its sides.
    theta = torch.tensor(
        [
            [mirror * cos * half_x, -sin * half_y * height / width, centre_x],
            [mirror * sin * half_x * width / height, cos * half_y, centre_y],
        ]
    )
    grid = F.affine_grid(theta[None], [1, 3, side, side], align_corners=False)
    return F.grid_sample(picture[None].float(), grid, padding_mode="reflection", align_corners=False)[0]


def colour_jitter(images: torch.Tensor, rng: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Other light: exposure, contrast, saturation, a tint for each channel, blur and noise for some.

    Args:
        images: (n, 3, side, side) float32, 0–1.
    """
    n = len(images)

    def draw(spread: float, *shape: int) -> torch.Tensor:
        values = (torch.rand((n, *shape), generator=rng) * 2 - 1) * spread * strength
        return values.to(images.device)

    images = images * (1 + draw(0.35, 1, 1, 1)) * (1 + draw(0.12, 3, 1, 1))
    mean = images.mean(dim=(2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + draw(0.35, 1, 1, 1))
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (1 + draw(0.4, 1, 1, 1))
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1)
    soft = (torch.rand((n, 1, 1, 1), generator=rng) < 0.2).to(images.device)
    images = torch.where(soft, blurred, images)
    return images.clamp(0, 1)


def erase(images: torch.Tensor, rng: torch.Generator, share: float = 0.25) -> torch.Tensor:
    """Fill a random rectangle of some images with noise, in place."""
    n, _, side, _ = images.shape
    chosen = torch.rand(n, generator=rng) < share
    for index in chosen.nonzero().flatten().tolist():
        u = torch.rand(4, generator=rng).tolist()
        height, width = (max(1, int(side * (0.1 + 0.3 * v))) for v in u[:2])
        y, x = int(u[2] * (side - height)), int(u[3] * (side - width))
        noise = torch.rand((3, height, width), generator=rng)
        images[index, :, y : y + height, x : x + width] = noise.to(images.device)
    return images


def mix(images: torch.Tensor, targets: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend the batch with itself shuffled (mixup), or paste a rectangle of it (CutMix).

    Args:
        images: (n, 3, side, side).
        targets: (n, classes), rows sum to 1.
    """
    n, _, side, _ = images.shape
    order = torch.randperm(n, generator=rng).to(images.device)
    kind, u, y, x = torch.rand(4, generator=rng).tolist()
    if kind < 0.5:
        part = 0.5 * u  # of the other image
        images = images * (1 - part) + images[order] * part
    else:
        edge = int(side * math.sqrt(u * 0.6))
        top, left = int(y * (side - edge)), int(x * (side - edge))
        images = images.clone()
        images[:, :, top : top + edge, left : left + edge] = images[order, :, top : top + edge, left : left + edge]
        part = edge * edge / side**2
    return images, targets * (1 - part) + targets[order] * part
