"""Numbers of a config are those that are written, and a text is what is written."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from common.config import load_config


@dataclass(frozen=True, kw_only=True)
class Keys:
    steps: int = 1
    rate: float = 1.0
    texts: tuple[str, ...] = ()
    out: Path = Path("out")


@pytest.mark.parametrize("written", ["0100", "1_00", "12:30", "0x10", "0b1", "+5"])
def test_what_yaml_would_respell_is_no_number(tmp_path: Path, written: str) -> None:
    file = tmp_path / "a.yaml"
    for line, given in ((f"steps: {written}\n", []), ("", [f"steps={written}"])):
        file.write_text(line)
        with pytest.raises(ValueError, match=r"must be a whole number: set steps") as told:
            load_config(Keys, file, given)
        assert repr(written) in str(told.value)


def test_texts_are_as_they_are_written_or_told_to_be_put_in_quotes() -> None:
    said = load_config(Keys, None, ["texts=[0010,12:30,'1_000',7,'1e3']", "out=7"])
    assert said.texts == ("0010", "12:30", "1_000", "7", "1e3") and said.out == Path("7")
    for override in ("texts=[1e3]", "texts=[1.50]"):
        with pytest.raises(ValueError, match=r"a number with a point or an exponent in quotes"):
            load_config(Keys, None, [override])


def test_plain_numbers_are_numbers() -> None:
    for written, rate in {"1e-3": 0.001, "1.0e-3": 0.001, "5": 5.0, "-3.": -3.0, "0": 0.0}.items():
        assert load_config(Keys, None, [f"rate={written}"]).rate == rate
    assert load_config(Keys, None, ["steps=-12"]).steps == -12
    assert load_config(Keys, None, ["steps=10_000"]).steps == 10_000
