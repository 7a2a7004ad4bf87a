"""The ways to compute one convolution, one file each. `METHODS["direct"](x, kernel, layer) -> y`."""

from linear_lasagna import vocabulary
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


class Methods(dict[str, Method]):
    """This package's own, by name. Those of other runtimes are found by theirs, but not among them."""

    def __missing__(self, name: str) -> Method:
        from linear_lasagna.runtimes import RUNTIMES

        return RUNTIMES[name]


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
METHODS = Methods(METHODS)  # which finds runtimes too


def method_named(name: str, where: str = "") -> Method:
    """The method; one of the user's own (`linear_lasagna.own`) is put among METHODS when it is first asked for.

    where: what the message says of the name. Raises ValueError, with the known ones, for an unknown name.
    """
    if name not in METHODS and name not in vocabulary.RUNTIMES:
        from linear_lasagna.catalog import OWN  # loads the user's file, which may import this module

        if name not in OWN.methods:
            known = (*METHODS, *vocabulary.RUNTIMES, *OWN.methods)
            raise ValueError(f"unknown method {name!r}{where}; known: {', '.join(known)}")
        METHODS[name] = method_of(name, OWN.methods[name])
    return METHODS[name]


__all__ = ["METHODS", "Call", "Method", "method_named"]
