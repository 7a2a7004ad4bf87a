"""A torch.fx tracer whose values know what they are for an example, so that shapes can decide what forward does.

What they decide is asserted in the graph: for sizes at which forward would do something else, the graph raises. What
depends on numbers is not traced. A submodule that cannot be traced is kept as one node, called as it is.
"""

from __future__ import annotations

import operator
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy
import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute, ParameterProxy, TraceError

from linear_lasagna.merging.plain import not_plain
from linear_lasagna.models.comparing import leaves
from linear_lasagna.models.operators import CONVOLUTIONS, IN_PLACE, NORMALISATIONS
from linear_lasagna.models.places import first_line, own_frame, place, place_of

# What is read of a tensor without its numbers.
ATTRIBUTES = frozenset({"shape", "dtype", "device", "layout", "is_cuda", "requires_grad"})
METHODS = frozenset({"size", "numel", "nelement", "stride", "is_contiguous", "is_floating_point", "is_complex"})
RANKS = frozenset({"dim", "ndimension"})
PLAIN = (bool, int, float, str)
AUTOCAST = "it computes under torch.autocast, which no graph holds; without it, dtype= of merge_model gives 16 bits"
AUTOCAST += ", and in a submodule of its own it would be kept"
EINOPS = ("rearrange", "reduce", "repeat", "einsum", "pack", "unpack")


class Value(NamedTuple):
    """What is known of a node's value, a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def ndim(self) -> int:
        return len(self.shape)


def value_of(tensor: torch.Tensor) -> Value:
    """What is known of the tensor."""
    return Value(tuple(tensor.shape), tensor.dtype, tensor.device)


class ExampleProxy(fx.Proxy):
    """A value of the graph. In its __dict__: _example, what it is for the example; _sized, whether shapes decide it."""

    tracer: ExampleTracer

    def __getattr__(self, k: str) -> Any:
        example = self.__dict__.get("_example")
        if isinstance(example, torch.Tensor) and k == "ndim":
            return example.ndim
        if isinstance(example, torch.Tensor) and k in ATTRIBUTES:
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return Attribute(self, k)

    def __len__(self) -> int:
        return self.tracer.length(self)

    def __index__(self) -> int:
        return self.tracer.number(self, operator.index)

    def __int__(self) -> int:
        return self.tracer.number(self, int)

    def __float__(self) -> float:
        return self.tracer.number(self, float)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


def _overwriting(in_place: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """x += y on a tensor, which every other name of it sees; torch.fx by itself takes it for x = x + y."""

    def impl(self: ExampleProxy, other: Any) -> Any:
        target = in_place if isinstance(example_of(self), torch.Tensor) else plain
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return impl


for _in_place, _plain in IN_PLACE.items():
    setattr(ExampleProxy, f"__{_in_place.__name__}__", _overwriting(_in_place, _plain))


def example_of(value: Any) -> Any:
    """What a proxy is for the example; anything else is itself."""
    if isinstance(value, Attribute):
        return getattr(example_of(value.root), value.attr)
    if isinstance(value, ParameterProxy):
        return value.param
    return value.__dict__["_example"] if isinstance(value, fx.Proxy) else value


class ExampleTracer(fx.Tracer):
    """Takes what can be merged as one node, subclasses of PyTorch's layers too.

    model: computes the example's values, another copy than the one that is traced. fixed: arguments of forward and
    their values; given: the others, and theirs for the example. numbers: whether sizes, dtypes and devices are taken
    as the example's at once, which every function accepts.
    """

    def __init__(
        self, model: nn.Module, fixed: Mapping[str, Any], given: Mapping[str, Any], numbers: bool = False
    ) -> None:
        super().__init__(autowrap_functions=_of_einops(), param_shapes_constant=True)
        self.model, self.fixed, self.given, self.numbers = model, fixed, given, numbers
        self.kept: dict[str, str] = {}  # module -> why it could not be traced
        self.decided: dict[str, str] = {}  # module -> what of its forward sizes decide
        self.computing = False
        self.devices = sorted({each.device.type for each in leaves(given) if isinstance(each, torch.Tensor)})
        self.casts = _casts(self.devices)
        self.cache: dict[str, fx.Proxy] = {}
        self.names: dict[int, tuple[str, torch.Tensor]] = {}

    @property
    def notes(self) -> list[tuple[tuple[str, ...], str]]:
        """The modules that could not be traced, or only for some sizes, and why."""
        return [((name,), reason) for name, reason in (*self.kept.items(), *self.decided.items())]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.kept or super().is_leaf_module(m, module_qualified_name):
            return True  # parametrised layers too, whose numbers would be traced if they were looked at here
        if m is getattr(self.root, "_guards_fn", None):  # of torch.export: which sizes the graph is for
            return True
        layers = (*CONVOLUTIONS, *NORMALISATIONS)
        return isinstance(m, layers) and not_plain(m, layers) is None

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        for position, argument in enumerate(arguments):
            name = str(argument.node.target).lstrip("*") if isinstance(argument, fx.Proxy) else ""
            if name in self.fixed:
                arguments[position] = self.fixed[name]
                self.graph.erase_node(argument.node)
            elif name and self.given[name] is None:
                arguments[position] = None
        return function, arguments

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ExampleProxy(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: Any,
        kwargs: Any,
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> Any:
        """The node's proxy, with its example; the rank of a tensor is a number, and so is every size if `numbers`."""
        if not self.computing and _casts(self.devices) != self.casts:
            raise TraceError(AUTOCAST)
        if kind == "call_method" and target in RANKS:
            return example_of(args[0]).dim()
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if kind == "get_attr":
            return proxy
        read: list[fx.Proxy] = []
        map_aggregate((args, kwargs), lambda each: read.append(each) if isinstance(each, fx.Proxy) else each)
        tensors = [(each.node, t, t._version) for each in read if _versioned(t := example_of(each))]
        example = self._example(kind, target, args, kwargs)
        proxy.__dict__["_example"] = example
        meta = proxy.node.meta
        overwritten = [node for node, tensor, version in tensors if tensor._version != version]
        if overwritten:
            meta["overwrites"] = overwritten[0]
        meta["alias"] = any(_shares(leaf, read) for leaf in leaves(example) if isinstance(leaf, torch.Tensor))
        if isinstance(example, torch.Tensor):
            meta["tensor"] = value_of(example)
            meta["constant"] = example if read and all(map(_constant, read)) else None
            return proxy
        is_read = _reads(kind, target, args)
        sized = is_read or (bool(read) and kind != "call_module" and all(map(_sized, read)))
        proxy.__dict__["_sized"] = meta["sized"] = sized or (kind == "placeholder" and isinstance(example, PLAIN))
        return self._decide(proxy, example) if is_read and self.numbers else proxy

    def _example(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return {**self.fixed, **self.given}[target.lstrip("*")]
        args, kwargs = map_aggregate((args, kwargs), example_of)  # type: ignore[misc]
        if kind == "call_method":
            target, args = getattr(args[0], target), args[1:]
        elif kind == "call_module":
            target = self.model.get_submodule(target)
        self.computing = True
        try:
            return target(*args, **kwargs)
        finally:
            self.computing = False

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        self.cache = parameter_proxy_cache
        name = None if self.computing or not isinstance(attr_val, nn.Parameter) else self._name_of(attr_val)
        if name is None:
            return attr_val
        if name not in self.cache:
            parameter = partial(ParameterProxy, self, name=name, param=attr_val)
            self.cache[name] = self.create_proxy("get_attr", name, (), {}, proxy_factory_fn=parameter)
        return self.cache[name]

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, numpy.generic):  # torch.fx refuses it, or writes it down as it prints, for Python to read
            a = a.item()
        name = self._name_of(a) if isinstance(a, torch.Tensor) else None
        return super().create_arg(a) if name is None else self.create_node("get_attr", name, (), {})

    def _name_of(self, tensor: torch.Tensor) -> str | None:
        """The parameter's or buffer's name in the model, looked up: torch.fx walks through all modules each time."""
        found = self.names.get(id(tensor))
        if found is None or found[1] is not tensor:
            self.names = {id(each): (name, each) for name, each in _tensors(self.root)}
            found = self.names.get(id(tensor))
        return None if found is None else found[0]

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.computing:
            return forward(*args, **kwargs)
        path, last, stack = self.path_of_module(m), _last(self.graph), self.module_stack.copy()
        if path in self.kept:
            return self._kept(m, forward, args, kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            self._forget(last, path)
            self.module_stack = stack
            self.kept[path] = f"kept as it is, torch.fx cannot trace it{place_of(error)}: {first_line(error)}"
            if any(isinstance(each, CONVOLUTIONS) for each in m.modules()):
                self.kept[path] += "; merge_model of this module and its own input can merge what is in it"
            return self._kept(m, forward, args, kwargs)

    def _kept(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A node that calls the module."""
        proxy = super().call_module(m, forward, args, kwargs)
        proxy.node.meta["kept"] = True
        return proxy

    def _forget(self, last: fx.Node | None, path: str) -> None:
        """Take back what was traced since `last`, inside of the module at `path`."""
        while (node := _last(self.graph)) is not last and node is not None:
            self.graph.erase_node(node)
        for name in [name for name, proxy in self.cache.items() if proxy.node._erased]:
            del self.cache[name]
        for found in (self.kept, self.decided):
            for name in [name for name in found if f"{name}.".startswith(f"{path}.")]:
                del found[name]

    def to_bool(self, obj: fx.Proxy) -> bool:
        if not _sized(obj):
            raise TraceError("what it does depends on numbers that it computes")
        example = example_of(obj)
        if not isinstance(example, bool):
            obj = self.create_proxy("call_function", bool, (obj,), {})
        return self._decide(obj, bool(example))

    def number(self, obj: fx.Proxy, function: Callable[[Any], Any]) -> Any:
        """The size as a number, which the graph asserts."""
        if not _sized(obj):
            raise TraceError("it makes a Python number of what it computes")
        return self._decide(obj, function(example_of(obj)))

    def length(self, obj: fx.Proxy) -> int:
        """How many parts the value has, which the graph asserts; the rank of a tensor is taken as it is."""
        example = example_of(obj)
        if isinstance(example, torch.Size):
            return len(example)
        return self._decide(self.create_proxy("call_function", len, (obj,), {}), len(example))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if not isinstance(example_of(obj), (torch.Tensor, tuple, list)):
            return super().iter(obj)
        return iter([obj[place] for place in range(self.length(obj))])  # type: ignore[index]

    def _decide(self, obj: fx.Proxy, value: Any) -> Any:
        """The value, which forward goes on with; the graph asserts that it is the same for other inputs."""
        frame = own_frame(traceback.extract_stack())
        if frame is None or not (frame.line or "").startswith("assert "):
            module, where = self.scope.module_path or type(self.root).__name__, place(frame)
            self.decided[module] = f"what its forward does depends on sizes{where}: where it would differ, it raises"
            same = self.create_proxy("call_function", operator.eq, (obj, value), {})
            message = f"merged for sizes for which forward does the same as for the example{where}"
            self.create_proxy("call_function", torch._assert, (same, message), {}).node.meta["guard"] = True
        return value


def _casts(devices: Iterable[str]) -> list[tuple[bool, torch.dtype]]:
    """Whether torch.autocast is on, and to what it casts."""
    return [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices]


def _of_einops() -> tuple[Callable[..., Any], ...]:
    """The functions of einops, where it is in use: they ask for the type of what they get, so each call is one node."""
    einops = sys.modules.get("einops")
    return tuple(getattr(einops, name) for name in EINOPS if hasattr(einops, name))


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_buffers()
    yield from model.named_parameters()


def _last(graph: fx.Graph) -> fx.Node | None:
    return next(iter(reversed(graph.nodes)), None)


def _reads(kind: str, target: Any, args: Any) -> bool:
    """Whether the call reads a size, dtype or the like of a tensor."""
    if not args or not isinstance(example_of(args[0]), torch.Tensor):
        return False
    if kind == "call_function":
        return target is getattr and args[1] in ATTRIBUTES
    return kind == "call_method" and target in METHODS


def _sized(proxy: fx.Proxy) -> bool:
    return bool(proxy.__dict__.get("_sized"))


def _versioned(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.is_inference()


def _constant(proxy: fx.Proxy) -> bool:
    return proxy.node.op == "get_attr" or proxy.node.meta.get("constant") is not None


def _shares(example: torch.Tensor, read: Sequence[fx.Proxy]) -> bool:
    """Whether the value lies in the memory of one that it was computed from."""
    if example.layout is not torch.strided:
        return False
    memory = example.untyped_storage().data_ptr()
    values = [value for each in read if isinstance(value := example_of(each), torch.Tensor)]
    return any(value.layout is torch.strided and value.untyped_storage().data_ptr() == memory for value in values)
