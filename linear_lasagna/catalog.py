"""The named problems: the sources', published networks' layers, and stacks that people merge or should not.

Those of the group `stacks` are unpadded and their inputs carry the border that padding would have added, because there
a merged convolution equals the stack everywhere. Those of the group `borders` are padded between the layers, on large
images and on small ones of 32×32. Those of `batches` and `throughput` keep an accelerator busy, on which the others are
over before their launches are. `Problem.source` says where each entry's numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from linear_lasagna import own, sweeps
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import (
    BASELINE,
    CONTROL,
    DEVICES,
    LAYER_WAYS,
    MERGED,
    MERGED_WAYS,
    PLANNED_WAYS,
    RUNTIMES,
    TRANSFORMS,
    merged_ways,
)

MERGING_ARTICLE = "“How to merge 2D convolutions in PyTorch?”"
UNFOLD_ARTICLE = "“The unfold function”"
RESNET = "ResNet-50 v1.5: He et al., arXiv 1512.03385, table 1, stride on the 3×3 as in torchvision"
VGG = "VGG-16: Simonyan and Zisserman, arXiv 1409.1556, table 1, configuration D"
SESR = "SESR's collapsible block, 3×3 to 256 channels, 1×1 to 16: Bhardwaj et al., arXiv 2103.09404, section 3"
EXPANDNET = "ExpandNet's block, 1×1, 3×3, 1×1, expansion 4: Guo, Alvarez, Salzmann, arXiv 1811.10495, section 3"
MOBILENET = "MobileNet's separable convolution: Howard et al., arXiv 1704.04861, table 1"
MOBILENET_V1 = (
    "MobileNet-V1 at 224×224: Howard et al., arXiv 1704.04861, table 1, the last depthwise layer with stride 1"
)
INCEPTION = "an n×1 and a 1×n convolution: Szegedy et al., arXiv 1512.00567, section 3.2, without its activation"
PYRAMID = "repeated 5×5 blur: Burt and Adelson, IEEE Trans. Communications 31 (1983), without subsampling"
WIDE = (
    "a wide layer between narrow ones, to train more parameters than are kept: the case for merging that Guo, Alvarez, "
    "Salzmann, arXiv 1811.10495, and Bhardwaj et al., arXiv 2103.09404, make; its numbers are this suite's own"
)
PLAIN = "plain 3×3 stack, the textbook example of receptive fields: Simonyan and Zisserman, arXiv 1409.1556"
BREAK_EVEN = "made up: a pair C → C_mid → C that gives 56×56, to find from which C_mid on merging pays"
LARGE_PAIR = "made up: a pair C → C_mid → C on as many pixels as an H100 needs to be busy, to find where merging pays"

SMALL_IMAGE = 32


def _sources() -> list[Problem]:
    return [
        Problem(
            "sources/merge",
            1,
            1,
            (6, 6),
            (Layer(100, 3, padding=2), Layer(2, 5, padding=4)),
            f"{MERGING_ARTICLE}: 900 and 5000 parameters merge into 98",
        ),
        Problem(
            "sources/unfold",
            25,
            3,
            (32, 32),
            (Layer(16, 3),),
            f"{UNFOLD_ARTICLE}: unfold gives (25, 27, 900), the product (25, 16, 30, 30)",
        ),
        Problem(
            "sources/patches",
            25,
            3,
            (224, 224),
            (Layer(588, 14, stride=14),),
            f"{UNFOLD_ARTICLE}: 14×14 patches are (25, 588, 256); as many outputs as a patch has numbers",
        ),
    ]


def _conv(name: str, channels: int, size: int, layer: Layer, occurrences: int, source: str) -> Problem:
    return Problem(name, 1, channels, (size, size), (layer,), source, occurrences)


def _resnet50() -> list[Problem]:
    """The 53 convolutions of ResNet-50 at 224×224; equal ones once, with how often they occur."""

    def pointwise(name: str, inputs: int, outputs: int, size: int, occurrences: int, stride: int = 1) -> Problem:
        return _conv(f"resnet50/{name}", inputs, size, Layer(outputs, 1, stride), occurrences, RESNET)

    def spatial(name: str, channels: int, size: int, occurrences: int, stride: int = 1) -> Problem:
        layer = Layer(channels, 3, stride, padding=1)
        return _conv(f"resnet50/{name}", channels, size, layer, occurrences, RESNET)

    return [
        _conv("resnet50/conv1", 3, 224, Layer(64, 7, stride=2, padding=3), 1, RESNET),
        pointwise("conv2_reduce_first", 64, 64, 56, 1),
        pointwise("conv2_reduce", 256, 64, 56, 2),
        spatial("conv2_3x3", 64, 56, 3),
        pointwise("conv2_expand", 64, 256, 56, 4),  # three expansions and the equal shortcut
        pointwise("conv3_reduce_first", 256, 128, 56, 1),
        pointwise("conv3_reduce", 512, 128, 28, 3),
        spatial("conv3_3x3_stride", 128, 56, 1, stride=2),
        spatial("conv3_3x3", 128, 28, 3),
        pointwise("conv3_expand", 128, 512, 28, 4),
        pointwise("conv3_shortcut", 256, 512, 56, 1, stride=2),
        pointwise("conv4_reduce_first", 512, 256, 28, 1),
        pointwise("conv4_reduce", 1024, 256, 14, 5),
        spatial("conv4_3x3_stride", 256, 28, 1, stride=2),
        spatial("conv4_3x3", 256, 14, 5),
        pointwise("conv4_expand", 256, 1024, 14, 6),
        pointwise("conv4_shortcut", 512, 1024, 28, 1, stride=2),
        pointwise("conv5_reduce_first", 1024, 512, 14, 1),
        pointwise("conv5_reduce", 2048, 512, 7, 2),
        spatial("conv5_3x3_stride", 512, 14, 1, stride=2),
        spatial("conv5_3x3", 512, 7, 2),
        pointwise("conv5_expand", 512, 2048, 7, 3),
        pointwise("conv5_shortcut", 1024, 2048, 14, 1, stride=2),
    ]


def _vgg16() -> list[Problem]:
    """The 13 convolutions of VGG-16 at 224×224; equal ones once, with how often they occur."""
    rows = [
        ("conv1_1", 3, 64, 224, 1),
        ("conv1_2", 64, 64, 224, 1),
        ("conv2_1", 64, 128, 112, 1),
        ("conv2_2", 128, 128, 112, 1),
        ("conv3_1", 128, 256, 56, 1),
        ("conv3_2", 256, 256, 56, 2),
        ("conv4_1", 256, 512, 28, 1),
        ("conv4_2", 512, 512, 28, 2),
        ("conv5", 512, 512, 14, 3),
    ]
    return [
        _conv(f"vgg16/{name}", inputs, size, Layer(outputs, 3, padding=1, bias=True), occurrences, VGG)
        for name, inputs, outputs, size, occurrences in rows
    ]


def _mobilenet() -> list[Problem]:
    """The 27 convolutions of MobileNet-V1; equal ones once, with how often they occur."""
    rows = [  # of the depthwise layer before each pointwise one: channels, size, stride; channels after; occurrences
        (32, 112, 1, 64, 1),
        (64, 112, 2, 128, 1),
        (128, 56, 1, 128, 1),
        (128, 56, 2, 256, 1),
        (256, 28, 1, 256, 1),
        (256, 28, 2, 512, 1),
        (512, 14, 1, 512, 5),
        (512, 14, 2, 1024, 1),
        (1024, 7, 1, 1024, 1),
    ]
    layers = [_conv("mobilenet/conv1", 3, 224, Layer(32, 3, stride=2, padding=1), 1, MOBILENET_V1)]
    for channels, size, stride, outputs, occurrences in rows:
        depthwise = Layer(channels, 3, stride, padding=1, groups=channels)
        place, strided = f"{channels}_{size}", "_stride" if stride > 1 else ""
        names = (f"mobilenet/depthwise_{place}{strided}", f"mobilenet/pointwise_{place}{strided}")
        layers.append(_conv(names[0], channels, size, depthwise, occurrences, MOBILENET_V1))
        layers.append(_conv(names[1], channels, size // stride, Layer(outputs, 1), occurrences, MOBILENET_V1))
    return layers


def _stack(name: str, channels: int, size: int, layers: list[Layer], source: str) -> Problem:
    return Problem(f"stacks/{name}", 1, channels, (size, size), tuple(layers), source)


def _sesr(blocks: int) -> Problem:
    layers = [Layer(256, 3), Layer(16, 1)] * blocks
    return _stack(f"sesr_x{blocks}", 16, 128, layers, SESR)


def _plain(depth: int) -> Problem:
    return _stack(f"plain_x{depth}", 16, 64, [Layer(16, 3)] * depth, PLAIN)


def _stacks() -> list[Problem]:
    return [
        *(_sesr(blocks) for blocks in (1, 3, 5)),
        _stack("expandnet", 32, 64, [Layer(128, 1), Layer(128, 3), Layer(32, 1)], EXPANDNET),
        _stack("separable_early", 32, 114, [Layer(32, 3, groups=32), Layer(64, 1)], MOBILENET),
        _stack("separable_late", 512, 16, [Layer(512, 3, groups=512), Layer(512, 1)], MOBILENET),
        _stack("spatially_separable", 64, 58, [Layer(64, (3, 1)), Layer(64, (1, 3))], INCEPTION),
        _stack("blur_pyramid", 3, 256, [Layer(3, 5, groups=3)] * 6, PYRAMID),
        *(_plain(depth) for depth in (2, 3, 4, 6, 8, 12, 16)),
    ]


def _break_even() -> list[Problem]:
    """Pairs of k×k, C from 4 to 64, C_mid from C / 2 to 16 C, but 512 at most."""

    def pair(k: int, outer: int, middle: int) -> Problem:
        size, layers = 56 + 2 * (k - 1), (Layer(middle, k), Layer(outer, k))
        return Problem(f"breakeven/k{k}_{outer}_{middle}", 1, outer, (size, size), layers, BREAK_EVEN)

    multiples = (1, 2, 4, 8, 16, 32)  # of C / 2
    sizes = [(outer, outer * m // 2) for outer in (4, 8, 16, 32, 64) for m in multiples if outer * m // 2 <= 512]
    return [pair(k, *channels) for k in (3, 5) for channels in sizes]


def _border(name: str, channels: int, size: int, layers: list[Layer], source: str) -> list[Problem]:
    """A padded stack on a large image and on a small one."""
    return [Problem(f"borders/{name}_{n}", 1, channels, (n, n), tuple(layers), source) for n in (size, SMALL_IMAGE)]


def _borders() -> list[Problem]:
    wide, narrow = Layer(64, 3, padding=1), Layer(8, 3, padding=1)
    expanding, reducing = Layer(128, 3, padding=1), Layer(16, 3, padding=1)
    sesr = [Layer(256, 3, padding=1), Layer(16, 1)] * 3
    return [
        *_border("wide_pair", 8, 256, [wide, narrow], WIDE),
        *_border("wide_pair_x2", 16, 128, [expanding, reducing] * 2, WIDE),
        *_border("sesr_x3", 16, 256, sesr, f"{SESR}; padded, as the network is"),
        *_border("plain_x3", 32, 128, [Layer(32, 3, padding=1)] * 3, f"{PLAIN}; padded, as in VGG"),
    ]


DOUBLED = 448  # pixels a side: ResNet's layers have few channels for their pixels, and are busy on larger images


def _batches() -> list[Problem]:
    """Layers of the networks in batches, images of 224×224, those of ResNet-50 of 448×448: name_b<batch>."""
    resnet = {p.name: replace(p, size=tuple(2 * n for n in p.size)) for p in _resnet50()}
    sized = {f"{name}_{DOUBLED}": replace(p, source=f"{p.source}; images of 448×448") for name, p in resnet.items()}
    layers = sized | {problem.name: problem for problem in _vgg16()}
    rows = [
        *(("resnet50/conv1_448", 64), ("resnet50/conv2_3x3_448", 128), ("resnet50/conv2_expand_448", 64)),
        *(("resnet50/conv3_3x3_448", 128), ("resnet50/conv3_expand_448", 128), ("resnet50/conv4_3x3_448", 128)),
        *(("resnet50/conv4_expand_448", 256), ("resnet50/conv5_3x3_stride_448", 128), ("resnet50/conv5_3x3_448", 128)),
        ("resnet50/conv5_expand_448", 256),
        *(("vgg16/conv1_1", 64), ("vgg16/conv1_2", 32), ("vgg16/conv2_2", 32), ("vgg16/conv3_2", 32)),
        *(("vgg16/conv4_2", batch) for batch in (32, 64, 128, 256)),
        ("vgg16/conv5", 128),
    ]
    return [replace(layers[name], name=f"{name}_b{batch}", batch=batch) for name, batch in rows]


def _throughput() -> list[Problem]:
    """Stacks, and pairs C → C_mid → C of k×k: name_b<batch>."""

    def stack(name: str, batch: int, channels: int, size: int, layers: list[Layer], source: str) -> Problem:
        return Problem(f"throughput/{name}_b{batch}", batch, channels, (size, size), tuple(layers), source)

    def pair(k: int, outer: int, middle: int, size: int) -> Problem:
        layers = [Layer(middle, k), Layer(outer, k)]
        return stack(f"k{k}_{outer}_{middle}", 32, outer, size + 2 * (k - 1), layers, LARGE_PAIR)

    def plain(depth: int) -> Problem:
        source = f"{PLAIN}; 128 channels"
        return stack(f"plain_x{depth}", 32, 128, 96 + 2 * depth, [Layer(128, 3)] * depth, source)

    def sesr(blocks: int) -> Problem:
        source, layers = f"{SESR}; images of 1920×1080 and their border", [Layer(256, 3), Layer(16, 1)] * blocks
        size = (1080 + 2 * blocks, 1920 + 2 * blocks)
        return Problem(f"throughput/sesr_x{blocks}_b2", 2, 16, size, tuple(layers), source)

    expandnet = [Layer(128, 1), Layer(128, 3), Layer(32, 1)]
    separable = [Layer(512, (3, 1)), Layer(512, (1, 3))]
    padded = [Layer(128, 3, padding=1), Layer(16, 3, padding=1)]
    pairs = [
        *((3, 16, 64, 384), (3, 16, 256, 192), (3, 32, 64, 272), (3, 64, 64, 192), (3, 64, 128, 144), (3, 64, 512, 72)),
        *((5, 16, 32, 320), (5, 16, 64, 224), (5, 64, 64, 112), (5, 64, 256, 64)),
    ]
    return [
        *(sesr(blocks) for blocks in (1, 3)),
        stack("expandnet", 32, 32, 162, expandnet, EXPANDNET),
        stack("spatially_separable", 64, 512, 34, separable, INCEPTION),
        *(plain(depth) for depth in (2, 4, 8)),
        *(pair(*row) for row in pairs),
        stack("wide_pair_padded", 32, 16, 288, padded, WIDE),
    ]


def _transforms() -> list[Problem]:
    """Layers that every transform can compute, few channels and many: transforms/<network>_<layer>."""
    layers = {problem.name: problem for problem in _resnet50()}
    names = ("resnet50/conv2_3x3", "resnet50/conv3_3x3", "resnet50/conv4_3x3")
    return [replace(layers[name], name=f"transforms/{name.replace('/', '_')}", occurrences=1) for name in names]


def _runtimes() -> tuple[Problem, ...]:
    """Layers of each kind: runtimes/<what it is>."""
    layers = {problem.name: problem for problem in (*_sources(), *_resnet50(), *_mobilenet())}
    named = {
        "spatial": "resnet50/conv2_3x3",
        "strided": "mobilenet/conv1",
        "pointwise": "resnet50/conv4_reduce",
        "depthwise": "mobilenet/depthwise_128_56",
        "unfold": "sources/unfold",
    }
    return tuple(replace(layers[name], name=f"runtimes/{kind}", occurrences=1) for kind, name in named.items())


@dataclass(frozen=True)
class Group:
    """Problems that are timed with the same ways.

    title: what they are, in a report's heading; work: what a trial of them does, a key of `trial.isolation.WORKS`;
    share: of a trial's budget, for trials that are many and alike. own_section: a report tells of them apart, and
    counts them in none of its figures over all trials. devices: the kinds that they are for. threads: to compute with,
    0 for as many as torch takes.
    """

    title: str
    problems: tuple[Problem, ...]
    ways: tuple[str, ...]
    work: str = "forward"
    share: float = 1.0
    own_section: bool = False
    devices: tuple[str, ...] = DEVICES
    threads: int = 0


ACCELERATORS = tuple(device for device in DEVICES if device != "cpu")
STACKS = tuple(_stacks())
SWEPT_WAYS = (BASELINE, CONTROL, "unfold_matmul", "fft", "winograd_f4")


def _on_threads(name: str, what: str) -> Group:
    """The same layers with another number of threads."""
    shared = {"share": 0.3, "own_section": True, "devices": ("cpu",)}
    return Group(f"a layer on {what}", sweeps.THREADED, SWEPT_WAYS, threads=sweeps.THREADS[name], **shared)


GROUPS: dict[str, Group] = {
    "sources": Group(
        "the problems of the two articles",
        tuple(_sources()),
        (*LAYER_WAYS, "merged/direct", "merged/unfold_matmul", *MERGED_WAYS),
    ),
    "networks": Group("layers of published networks", (*_resnet50(), *_vgg16()), LAYER_WAYS),
    "stacks": Group(
        "stacks, merged and not",
        STACKS,
        (
            *(BASELINE, CONTROL, "direct_channels_last", "unfold_matmul"),
            *merged_ways(),
            *MERGED_WAYS,
            *PLANNED_WAYS,
        ),
    ),
    # merged_summed is wrong at the border, and there to show what computing the border apart costs.
    "borders": Group(
        "padded stacks, merged with their border computed apart",
        tuple(_borders()),
        (BASELINE, CONTROL, "border_exact/direct", "merged_summed/direct", *PLANNED_WAYS),
    ),
    "merging": Group(
        "what merging itself costs, beside one call of the unmerged stack",
        STACKS,
        (BASELINE, CONTROL, "merge_float64", "merge_working"),
        work="merge",
        own_section=True,
    ),
    "training": Group(
        "training steps, forward and backward, of stacks that merge for it or not",
        STACKS,
        (BASELINE, CONTROL, "merged_per_call"),
        work="training_step",
        own_section=True,
    ),
    "breakeven": Group(
        "pairs C → C_mid → C, to see from which C_mid on merging pays",
        tuple(_break_even()),
        (BASELINE, CONTROL, "merged/direct"),
        share=0.3,
        own_section=True,
    ),
    "transforms": Group(
        "3×3 layers, by transforms and by compensated sums",
        tuple(_transforms()),
        (BASELINE, CONTROL, *TRANSFORMS),
        share=0.5,
    ),
    "mobilenet": Group(
        "depthwise and pointwise layers of MobileNet-V1",
        tuple(_mobilenet()),
        (BASELINE, CONTROL, "direct_channels_last", "unfold_matmul", "winograd_f4"),
        share=0.5,
    ),
    "sweeps": Group(
        "a layer of which one number varies",
        sweeps.problems("sweeps"),
        SWEPT_WAYS,
        share=0.3,
        own_section=True,
    ),
    "depths": Group(
        "a stack of which the depth varies",
        sweeps.problems("depths"),
        (BASELINE, CONTROL, "unfold_matmul", "winograd_f4", MERGED),
        share=0.3,
        own_section=True,
    ),
    "runtimes": Group(
        "layers computed by other runtimes too",
        _runtimes(),
        (BASELINE, CONTROL, "unfold_matmul", *RUNTIMES),
        work="probed",
        own_section=True,
        devices=("cpu",),
    ),
    "threads": _on_threads("threads", "all threads"),
    "onethread": _on_threads("onethread", "one thread"),
    "twothreads": _on_threads("twothreads", "two threads"),
    "batches": Group(
        "layers of published networks, in batches that keep an accelerator busy",
        tuple(_batches()),
        LAYER_WAYS,
        devices=ACCELERATORS,
    ),
    "throughput": Group(
        "stacks and pairs that keep an accelerator busy, merged and not",
        tuple(_throughput()),
        (
            *(BASELINE, CONTROL, "direct_channels_last", "merged/direct", "merged/direct_channels_last"),
            *("border_exact/direct", *PLANNED_WAYS),
        ),
        devices=ACCELERATORS,
    ),
}

CATALOG: dict[str, Problem] = {problem.name: problem for group in GROUPS.values() for problem in group.problems}

# The user's own come last, so that their file may import this module. Methods of installed packages are timed wherever
# all methods are, those of the file on its problems.
OWN = own.load()
OWN_TITLE = "your own layers and stacks"
GROUPS |= {
    name: replace(group, ways=(*group.ways, *OWN.installed))
    for name, group in GROUPS.items()
    if group.ways[: len(LAYER_WAYS)] == LAYER_WAYS
}
if OWN.problems:
    GROUPS[own.GROUP] = Group(OWN_TITLE, OWN.problems, OWN.ways)
    CATALOG |= {problem.name: problem for problem in OWN.problems}


def title_of(group: str) -> str:
    """A group's title in a report, also of one that is not there now: its name, where no more is known."""
    if group in GROUPS:
        return GROUPS[group].title
    return OWN_TITLE if group == own.GROUP else group


def problem_named(name: str) -> Problem:
    """The catalogue's problem. Raises ValueError, with the nearest names, for an unknown one."""
    if name in CATALOG:
        return CATALOG[name]
    import difflib

    near = difflib.get_close_matches(name, CATALOG, n=3, cutoff=0.3) or list(CATALOG)[:3]
    raise ValueError(f"unknown problem {name!r}; did you mean {', '.join(near)}?")
