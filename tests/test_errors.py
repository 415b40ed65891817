"""What a sentence takes over from elsewhere is short, and not cut in the middle of a word."""

import pytest

from logpi.errors import LogpiError, short
from logpi.lm import pretrained

URL = "https://example.org/" + "x" * 60


def test_a_text_is_cut_between_words_and_a_long_word_anywhere():
    assert short("one two\nthree", 13) == "one two three"
    assert short("one two threes", 13) == "one two..."
    assert short("a" * 20, 13) == "a" * 10 + "..."


def test_why_a_model_cannot_be_loaded_has_whole_addresses(tmp_path):
    class Broken:
        @staticmethod
        def from_pretrained(where, **_):
            raise ValueError(f"{'word ' * 20}see {URL} and {URL}.")

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(LogpiError) as said:
        pretrained.read(Broken, str(tmp_path))
    assert str(said.value) == f"The model {tmp_path} cannot be loaded: {'word ' * 20}see {URL} and."
