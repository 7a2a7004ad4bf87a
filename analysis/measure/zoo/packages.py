"""Where architectures come from: what each package has, how one is built without weights, what it is called with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from linear_lasagna.models.designs import DESIGNS, by_authors, disturbed

Families: TypeAlias = dict[str, tuple[str, ...]]

SIZE = 112  # pixels a side, where the architecture takes any
WAYS = ("given", "merged", "authors", "fused")


@dataclass(frozen=True)
class Package:
    """families: names by family, without importing weights; build(name): with random numbers; inputs(name): what to
    call it with, the first that works; authors: their re-parametrisation; processes: fresh ones that time it, for
    about budget_s each.
    """

    module: str
    families: Callable[[], Families]
    build: Callable[[str], nn.Module]
    inputs: Callable[[str], Iterable[tuple[Any, ...]]]
    authors: Callable[[nn.Module], nn.Module] | None = None
    ways: tuple[str, ...] = WAYS
    processes: int = 1
    budget_s: float = 0.5

    @property
    def missing(self) -> str | None:
        """The module that is not installed, None where it is."""
        return None if importlib.util.find_spec(self.module.partition(".")[0]) else self.module


def version(name: str) -> str:
    """Of the installed package."""
    return importlib.metadata.version("linear-lasagna" if name == "designs" else name)


def image(*shape: int) -> torch.Tensor:
    """Random numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def images(*sizes: int, channels: Iterable[int] = (3,)) -> Iterator[tuple[Any, ...]]:
    """One image of each size and number of channels, the sizes first."""
    return ((image(1, c, size, size),) for c in channels for size in sizes)


def _design_families() -> Families:
    return {name: (name,) for name in DESIGNS}


def _timm_families() -> Families:
    """By module and the first word of the name: most modules hold several networks."""
    timm = import_module("timm")
    found: dict[str, list[str]] = {}
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            found.setdefault(f"{module}/{_word(name)}", []).append(name)
    return {family: tuple(names) for family, names in found.items() if not family.endswith("/test")}


def _word(name: str) -> str:
    return (re.match("[a-z]+", name) or [name])[0]


def _timm_model(name: str) -> nn.Module:
    """For small images, where that has to be known beforehand, and can be told."""
    timm = import_module("timm")
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        with contextlib.suppress(Exception):  # whatever a model raises that does not take this size
            small = timm.create_model(name, pretrained=False, img_size=SIZE).eval()
            small(image(1, 3, SIZE, SIZE))
            return small
    return timm.create_model(name, pretrained=False)


def _timm_inputs(name: str) -> Iterator[tuple[Any, ...]]:
    timm = import_module("timm")
    config = timm.get_pretrained_cfg(name)
    channels, *size = (3, 224, 224) if config is None else config.input_size
    yield (image(1, channels, SIZE, SIZE),)
    yield (image(1, channels, *size),)


def _timm_authors(model: nn.Module) -> nn.Module:
    return import_module("timm.utils.model").reparameterize_model(model)


def _torchvision_families() -> Families:
    models = import_module("torchvision.models")
    found: dict[str, list[str]] = {}
    for name in models.list_models():
        module = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        if not module.startswith("quantization"):  # their modules are the others'
            found.setdefault(module, []).append(name)
    return {family: tuple(names) for family, names in found.items()}


def _torchvision_model(name: str) -> nn.Module:
    builder = import_module("torchvision.models").get_model_builder(name)
    named = inspect.signature(builder).parameters
    return builder(**{key: None for key in ("weights", "weights_backbone") if key in named})


def _torchvision_inputs(name: str) -> Iterator[tuple[Any, ...]]:
    module = import_module("torchvision.models").get_model_builder(name).__module__
    if ".detection." in module:
        yield ([image(3, 2 * SIZE, 2 * SIZE)],)
    elif ".video." in module:
        yield from ((image(1, 3, 16, size, size),) for size in (SIZE, 224))
    elif ".optical_flow." in module:
        yield (image(1, 3, 128, 128), image(1, 3, 128, 128) / 2)
    else:
        yield from images(SIZE, 224, 299)


def _segmentation_families() -> Families:
    """Decoders with their usual encoder, and U-Nets with each kind of encoder: decoder/encoder."""
    smp = import_module("segmentation_models_pytorch")
    found: dict[str, list[str]] = {name: [f"{name}/"] for name in smp.MODEL_ARCHITECTURES_MAPPING}
    for name, entry in smp.encoders.encoders.items():
        kind = entry["encoder"].__module__.rpartition(".")[2]
        found.setdefault(f"unet/{kind}", []).append(f"unet/{name}")
    return {family: tuple(names) for family, names in found.items()}


def _segmentation_model(name: str) -> nn.Module:
    smp = import_module("segmentation_models_pytorch")
    decoder, _, encoder = name.partition("/")
    asked = {"encoder_name": encoder} if encoder else {}
    return smp.MODEL_ARCHITECTURES_MAPPING[decoder](**asked, encoder_weights=None)


def _spandrel_families() -> Families:
    """The modules that each architecture gives out, those that can be made without asking for anything."""
    found: dict[str, list[str]] = {}
    for module in pkgutil.iter_modules(import_module("spandrel.architectures").__path__):
        home = import_module(f"spandrel.architectures.{module.name}")
        made = [name for name in getattr(home, "__all__", ()) if _is_module(getattr(home, name))]
        found |= {module.name: [f"{module.name}/{name}" for name in made]} if made else {}
    return {family: tuple(names) for family, names in found.items()}


def _is_module(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


SPANDREL_ASKS: dict[str, dict[str, int]] = {  # what has no default, or one that does not fit
    "HAT": {"img_size": 64, "window_size": 16},
    "MMRealSR": {"num_in_ch": 3, "num_out_ch": 3},
    "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SAFMN": {"dim": 36},
    "SAFMNBCIE": {"dim": 36},
    "SwinIR": {"img_size": 64, "window_size": 8},
    "Swin2SR": {"img_size": 64, "window_size": 8},
}


def _spandrel_model(name: str) -> nn.Module:
    architecture, _, model = name.partition("/")
    home = import_module(f"spandrel.architectures.{architecture}")
    return getattr(home, model)(**SPANDREL_ASKS.get(architecture, {}))


def _spandrel_inputs(name: str) -> Iterator[tuple[Any, ...]]:
    """Windows of many sizes, one or four channels, a mask beside the image, or an image as large as a face."""
    yield from images(48, 56, 64, 128, channels=(3, 1, 4))
    yield (image(1, 3, 64, 64), image(1, 1, 64, 64))
    yield (image(1, 3, 512, 512),)


PACKAGES: dict[str, Package] = {
    "designs": Package(
        "linear_lasagna",
        _design_families,
        lambda name: DESIGNS[name].build(),
        lambda name: [(DESIGNS[name].draw(),)],
        by_authors,
        (*WAYS, "frozen"),
        processes=6,
        budget_s=1.0,
    ),
    "timm": Package("timm", _timm_families, _timm_model, _timm_inputs, _timm_authors),
    "torchvision": Package("torchvision", _torchvision_families, _torchvision_model, _torchvision_inputs),
    "segmentation-models-pytorch": Package(
        "segmentation_models_pytorch", _segmentation_families, _segmentation_model, lambda name: images(128, 224)
    ),
    "spandrel": Package("spandrel", _spandrel_families, _spandrel_model, _spandrel_inputs),
}


def built(package: Package, name: str) -> nn.Module:
    """The architecture in float32 and eval mode, its BatchNorms as if it were trained."""
    torch.manual_seed(0)
    model = package.build(name).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):  # a last layer that starts as 0 hides all before it
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return disturbed(model)


def smallest(package: Package, names: Iterable[str]) -> str:
    """The name of the model with the fewest numbers; the first, where none can be made without memory for them."""
    names = list(names)
    if len(names) == 1:
        return names[0]
    counts = {name: count for name in names if (count := _numbers(partial(package.build, name))) is not None}
    return min(counts, key=lambda name: counts[name]) if counts else names[0]


def _numbers(build: Callable[[], nn.Module]) -> int | None:
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build().parameters())
    except Exception:  # whatever a model's construction raises there
        return None


OPERATORS = (
    *("nms", "qnms", "roi_align", "_roi_align_backward", "roi_pool", "_roi_pool_backward", "ps_roi_align"),
    *("_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward"),
)
_declared: list[torch.library.Library] = []


def declare_torchvision() -> None:
    """Let torchvision be imported beside a torch that its compiled part was not built for: without its own operators,
    which a few models for detection need.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations or "torchvision" in sys.modules or _declared:
        return
    try:
        for path in Path(spec.submodule_search_locations[0]).glob("_C*"):
            torch.ops.load_library(str(path))
    except OSError:
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for name in OPERATORS:
            _declared[0].define(f"{name}(...) -> ...")
