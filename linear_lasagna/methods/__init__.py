"""The ways to compute one convolution, one file each. `METHODS["direct"](x, kernel, layer) -> y`."""

from linear_lasagna.methods.compensated import compensated
from linear_lasagna.methods.direct import direct
from linear_lasagna.methods.direct_channels_last import direct_channels_last
from linear_lasagna.methods.fft import fft
from linear_lasagna.methods.given import method_of
from linear_lasagna.methods.im2col_numpy import im2col_numpy
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.patch_matmul import patch_matmul
from linear_lasagna.methods.shifted_matmul import shifted_matmul
from linear_lasagna.methods.strided_matmul import strided_matmul
from linear_lasagna.methods.unfold_matmul import unfold_matmul
from linear_lasagna.methods.winograd import winograd_f2, winograd_f4

METHODS: dict[str, Method] = {
    "direct": direct,
    "direct_channels_last": direct_channels_last,
    "unfold_matmul": unfold_matmul,
    "strided_matmul": strided_matmul,
    "shifted_matmul": shifted_matmul,
    "im2col_numpy": im2col_numpy,
    "patch_matmul": patch_matmul,
    "fft": fft,
    "winograd_f2": winograd_f2,
    "winograd_f4": winograd_f4,
    "compensated": compensated,
}


def method_named(name: str, where: str = "") -> Method:
    """The method; one of the user's own (`linear_lasagna.own`) is put among METHODS when it is first asked for.

    where: what the message says of the name. Raises ValueError, with the known ones, for an unknown name.
    """
    if name not in METHODS:
        from linear_lasagna.catalog import OWN  # loads the user's file, which may import this module

        if name not in OWN.methods:
            raise ValueError(f"unknown method {name!r}{where}; known: {', '.join((*METHODS, *OWN.methods))}")
        METHODS[name] = method_of(name, OWN.methods[name])
    return METHODS[name]


__all__ = ["METHODS", "Call", "Method", "method_named"]
