"""The tokenizer of the shipped tasks: a token for each letter, and one for the end."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END = "<end>"


def letters(alphabet: str) -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer of these letters; what is none of them is refused at encoding, not replaced."""
    vocabulary = {letter: k for k, letter in enumerate([END, *dict.fromkeys(alphabet)])}
    core = Tokenizer(models.WordLevel(vocabulary))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
