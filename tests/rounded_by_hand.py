"""Rounding of rationals to a format, and sums of them, from the definitions."""

from __future__ import annotations

import math
from fractions import Fraction

from linear_lasagna.rounding.summation_tree import SummationTree


def exponent(number):
    """floor(log2 |number|) of a rational that is not zero."""
    number = abs(number)
    guess = number.numerator.bit_length() - number.denominator.bit_length()
    return guess if number >= Fraction(2) ** guess else guess - 1


def unit_at(number, form):
    """The spacing of the format's numbers from |number| on, as if exponents had no upper end."""
    least = form.least if form.subnormals else exponent(number)
    return Fraction(2) ** (max(exponent(number), least) + 1 - form.significand_bits)


def nearest(units):
    return round(units)  # ties to even


def toward_zero(units):
    return math.floor(units)


def by_hand(number, form, choose=nearest):
    """A rational or float as the float64 that the format has for it. choose: an integer for a rational >= 0."""
    if isinstance(number, float) and not math.isfinite(number):
        return number if math.isnan(number) else math.copysign(form.overflow, number)
    sign, size = math.copysign(1.0, number), abs(Fraction(number))
    if size == 0:
        return sign * 0.0
    unit = unit_at(size, form)
    found = choose(size / unit) * unit
    if not form.subnormals and found < Fraction(form.smallest_normal):
        return sign * 0.0
    if found > Fraction(form.largest):
        return sign * (form.largest if choose is toward_zero else form.overflow)
    return sign * float(found)


class Adder:
    """Adds rationals as the machine says, in the order of `how`; `terms` are lists of factors."""

    def __init__(self, terms, how, machine):
        self.terms, self.how, self.machine = terms, how, machine
        self.choose = toward_zero if machine.rounding == "toward zero" else nearest

    def rounded(self, number):
        return Fraction(by_hand(number, self.machine.running, self.choose))

    def term(self, number):
        return math.prod(map(Fraction, self.terms[number]))

    def add(self, order, stored=()):
        values = [
            self.add(term)
            if isinstance(term, SummationTree)
            else self.term(term)
            if self.machine.fused or order.fused
            else self.rounded(self.term(term))
            for term in order.terms
        ]
        if order.fused:
            return self.rounded(sum(values))
        total, lost = self.rounded(values[0]), Fraction(0)
        for place, value in enumerate(values):
            if place and self.machine.compensated:
                added = self.rounded(value - lost)
                before, total = total, self.rounded(total + added)
                lost = self.rounded(self.rounded(total - before) - added)
            elif place:
                total = self.rounded(total + value)
            if place in stored:
                total = Fraction(by_hand(total, self.machine.storage))
        return total
