"""What three 3 x 3 layers of 16 channels lose in bfloat16, as they are and merged: `python tests/sixteen_bits.py`.

Relative L2 errors against the float32 weights in units of u = 2**-8, medians of eight draws of weights and images, for
inputs of one sign, smooth ones (amplitudes as 1/f) and white ones: at every position, and averaged over all positions.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from linear_lasagna.formats import unit_roundoff
from linear_lasagna.merging import merge
from linear_lasagna.metrics import relative_l2

DTYPE, CHANNELS, SIZE, SEEDS = torch.bfloat16, 16, 64, range(8)


def images(kind: str, generator: torch.Generator) -> torch.Tensor:
    """One image: (1, channels, size, size)."""
    x = torch.randn(1, CHANNELS, SIZE, SIZE, generator=generator)
    if kind == "one sign":
        return x.clamp(min=0)
    if kind == "white":
        return x
    f = torch.fft.fftfreq(SIZE)
    radius = (f[:, None].square() + f[None].square()).sqrt()
    radius[0, 0] = 1 / SIZE
    x = torch.fft.ifft2(torch.fft.fft2(x) / radius).real
    return x / x.std()


@torch.no_grad()
def errors(kind: str, seed: int) -> dict[str, tuple[float, float]]:
    """way -> the error at every position, and averaged."""
    generator = torch.Generator().manual_seed(seed)
    layers = nn.Sequential(*(nn.Conv2d(CHANNELS, CHANNELS, 3, bias=False) for _ in range(3)))
    for layer in layers:
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / (9 * CHANNELS) ** 0.5
    x = images(kind, generator).to(DTYPE)
    exact, cast = copy.deepcopy(layers).double()(x.double()), copy.deepcopy(layers).to(DTYPE)
    ways = {
        "layers": cast,
        "cast, then merged": merge(cast),
        "merged, then cast": merge(layers, dtype=DTYPE),
        "… tap sums kept": merge(layers, dtype=DTYPE, rounding="taps"),
        "… split": merge(layers, dtype=DTYPE, split=True),
    }
    lost = {name: way(x).double() - exact for name, way in ways.items()}
    mean = exact.mean((2, 3))
    return {name: (relative_l2(e, exact), relative_l2(e.mean((2, 3)), mean)) for name, e in lost.items()}


def main() -> None:
    """Print a table per kind of image."""
    for kind in ("one sign", "smooth", "white"):
        print(f"{kind}:".ljust(20), "at every position, averaged")
        found = [errors(kind, seed) for seed in SEEDS]
        for name in found[0]:
            each = torch.tensor([one[name] for one in found], dtype=torch.float64) / unit_roundoff(DTYPE)
            least, middle, most = each.amin(0), each.quantile(0.5, 0), each.amax(0)
            cells = [f"{m:.3g} [{a:.3g}, {b:.3g}]" for a, m, b in zip(least, middle, most, strict=True)]
            print(name.ljust(20), ", ".join(cells))


if __name__ == "__main__":
    main()
