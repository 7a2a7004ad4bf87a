"""Conditions as text: one canonical form, mistakes in one line, and what a device or dtype cannot have."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from linear_lasagna import factors
from linear_lasagna.factors import FACTORS, canonical, inapplicable, one_at_a_time, parsed, written
from linear_lasagna.vocabulary import DEVICES, DTYPES

ROOT = Path(__file__).parent.parent


def test_the_text_of_conditions_is_canonical():
    assert parsed("") == parsed("usual") == parsed("cache=warm,threads=all") == {}
    assert parsed("threads=1, cache=cold") == {"threads": "1", "cache": "cold"}
    assert canonical("threads=1,turns=interleaved,cache=cold") == "cache=cold,threads=1"
    for first, second in itertools.permutations(one_at_a_time()[1:], 2):
        if first.partition("=")[0] != second.partition("=")[0]:
            assert canonical(f"{first},{second}") == canonical(f"{second},{first}")
            assert written(parsed(canonical(f"{first},{second}"))) == canonical(f"{first},{second}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cold", "conditions must be such as cache=cold,threads=1, not 'cold'"),
        ("cache=cold,", "conditions must be such as cache=cold,threads=1, not 'cache=cold,'"),
        ("heat=cold", "unknown condition 'heat'; known: cache, turns, tf32,"),
        ("cache=lukewarm", "unknown level 'lukewarm' of cache; known: warm, cold"),
        ("cache=cold,cache=cold", "conditions 'cache=cold,cache=cold' name cache twice"),
        ("threads=0", "unknown level '0' of threads; known: all or a whole number"),
        ("threads=01", "unknown level '01' of threads"),
        ("threads=1.5", "unknown level '1.5' of threads"),
        ("threads=99999999999", "unknown level"),
        ("threads=٣", "unknown level"),
        ("threads=", "unknown level '' of threads"),
    ],
)
def test_mistakes_are_told_in_one_line(text, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}") as error:
        parsed(text)
    assert "\n" not in str(error.value)


def test_several_conditions_come_from_the_environment(monkeypatch):
    monkeypatch.delenv(factors.VARIABLE, raising=False)
    assert factors.from_environment() == ()
    monkeypatch.setenv(factors.VARIABLE, "usual; threads=1,cache=cold;cache=cold,threads=1")
    assert factors.from_environment() == ("", "cache=cold,threads=1")
    monkeypatch.setenv(factors.VARIABLE, "cache=cold;heat=on")
    with pytest.raises(ValueError, match=r"^LASAGNA_CONDITIONS: unknown condition 'heat'"):
        factors.from_environment()


def test_what_a_device_or_a_dtype_cannot_have_is_said():
    assert inapplicable({"tf32": "on"}, "cpu", "float32") == "tf32=on is for cuda, not cpu"
    assert inapplicable({"tf32": "on"}, "cuda:1", "float32") is None
    assert inapplicable({"tf32": "on"}, "cuda", "bfloat16") == "tf32=on is for float32, not bfloat16"
    assert inapplicable({"cache": "cold", "threads": "2"}, "cpu", "float64") is None
    assert inapplicable({"cache": "cold"}, "mps", "float32") == "cache=cold is for cpu and cuda, not mps"
    assert "for forward trials" in str(inapplicable({"work": "training_step"}, "cpu", "float32", "merge"))
    assert inapplicable({}, "mps", "float16", "merge") is None


def test_the_registry_is_sound():
    for name, factor in FACTORS.items():
        assert len(set(factor.levels)) == len(factor.levels) >= (1 if factor.number else 2), name
        assert set(factor.devices) <= set(DEVICES)
        assert set(factor.dtypes) <= set(DTYPES)
        assert all(factor.has(level) and not set(level) & set(",;= ") for level in (*factor.levels, *factor.others))
        assert factor.usual not in factor.others
    assert one_at_a_time()[0] == ""
    assert {text.partition("=")[0] for text in one_at_a_time()[1:]} == set(FACTORS)


def test_the_registry_needs_no_torch():
    code = "import sys, linear_lasagna.factors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_readme_s_table_is_the_registry_s():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for name, factor in FACTORS.items():
        assert f"| `{name}` | {factor.known} | {factor.meaning} |" in lines
