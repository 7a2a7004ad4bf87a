"""Layers one after another with what each pads: which of them merge into one convolution that is right everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from linear_lasagna.merging.pairs import pair
from linear_lasagna.problems import ExpandedLayer


class Link(NamedTuple):
    """A layer, its `padding` the zeros before every axis, and the zeros after: 'same' may put one more there."""

    layer: ExpandedLayer
    after: tuple[int, ...]

    @property
    def pads(self) -> bool:
        return any(self.layer.padding) or any(self.after)

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Output size per axis; below 1 where impossible."""
        layer = self.layer
        axes = zip(size, layer.padding, self.after, layer.effective_kernel_size, layer.stride, strict=True)
        return tuple((n + before + after - span) // s + 1 for n, before, after, span, s in axes)

    def followed_by(self, other: Link) -> Link:
        """The link of both, merged, with the sum of their paddings."""
        after = tuple(a + s * b for a, s, b in zip(self.after, self.layer.stride, other.after, strict=True))
        return Link(pair(self.layer, other.layer).merged, after)


Chain: TypeAlias = tuple[Link, ...]


def chained(layers: Sequence[ExpandedLayer]) -> Chain:
    """The layers as links; what they pad, they pad on both sides."""
    return tuple(Link(layer, layer.padding) for layer in layers)


def joined(chain: Sequence[Link]) -> Link:
    """The one link that the chain merges into, with the sum of all paddings, whether right at the border or not."""
    merged = chain[0]
    for link in chain[1:]:
        merged = merged.followed_by(link)
    return merged


def sizes_of(chain: Sequence[Link], size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sizes before each link and after the last."""
    sizes = [size]
    for link in chain:
        sizes.append(link.output_size(sizes[-1]))
    return sizes


def border_changes(before: Link, link: Link) -> str | None:
    """Why `link` after `before` is not one convolution, right everywhere; None where it is.

    What `link` pads with zeros must be what `before` would give there: zeros, because it sees padding alone. So on
    each axis that `link` pads, `before` must pad all that it spans but one position (with a stride, less in front), and
    it must add no bias. A layer without padding, too, follows anything.
    """
    layer = before.layer
    axes = zip(
        link.layer.padding,
        link.after,
        layer.padding,
        before.after,
        layer.effective_kernel_size,
        layer.stride,
        strict=True,
    )
    for here, there, zeros_before, zeros_after, span, stride in axes:
        if (here and zeros_before < span - stride) or (there and zeros_after < span - 1):
            return "zero padding between layers changes the border; merge unpadded or fully padded layers"
    if link.pads and layer.bias:
        return "a bias between fully padded layers changes the border; merge unpadded layers, or without bias"
    return None


def runs(chain: Sequence[Link]) -> tuple[Chain, ...]:
    """The chain cut into as few runs as merge into one convolution each that is right everywhere."""
    segments: list[list[Link]] = []
    merged: Link | None = None
    for link in chain:
        if merged is None or border_changes(merged, link):
            segments.append([link])
            merged = link
        else:
            segments[-1].append(link)
            merged = merged.followed_by(link)
    return tuple(tuple(run) for run in segments)


def as_few(chain: Chain) -> Chain:
    """The chain with every run that merges into one link, right everywhere, merged."""
    return tuple(joined(run) for run in runs(chain))
