"""The corruptions that CIFAR-10-C, CIFAR-100-C and ImageNet-C share (Hendrycks and Dietterich, ICLR 2019)."""

from __future__ import annotations

from probebench.errors import unknown

SEVERITIES = 5

CORRUPTIONS = (
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
)
"""The 15 corruptions of the benchmark and the 4 extra ones, by the names of their files and folders."""


def check_corruption(corruption: str, severity: int) -> None:
    """Raise UnknownName for a corruption or a severity that does not exist."""
    if corruption not in CORRUPTIONS:
        raise unknown("corruption", corruption, CORRUPTIONS)
    if severity not in range(1, SEVERITIES + 1):
        raise unknown("severity", severity, map(str, range(1, SEVERITIES + 1)))
