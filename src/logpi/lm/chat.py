"""Turns in a chat: what a template puts between the end of ours and the beginning of the next."""

from typing import Any

from logpi.errors import LogpiError, short

PROMPT = "a text, or a list of messages with role and content"


def is_prompt(x: Any) -> bool:
    """A text, or a chat: a list of {'role', 'content'}."""
    chat = isinstance(x, list) and x and all(isinstance(m, dict) and {"role", "content"} <= {*m} for m in x)
    return isinstance(x, str) or bool(chat)


ANSWERS = (
    "yes",
    "<think>\nhm\n</think>\n\nyes",
)  # turns that a template must leave as they are; some drop what was thought
Messages = list[dict[str, Any]]


def between_turns(tokenizer: Any, prompt: str | Messages, reply: str) -> str:
    """The text that follows the end token of a turn of ours: the reply, and in a chat what the template puts around it."""
    return reply if isinstance(prompt, str) else between(tokenizer, prompt, reply)


def between(tokenizer: Any, messages: Messages, reply: str) -> str:
    """What stands between a turn's end token and where the next turn begins, the reply being a message of the user's.

    Found by rendering the chat with a turn of ours and the reply behind it; the earlier messages must come out as they did
    before, or what the model said would no longer be what it is trained on.
    """
    opening = rendered(tokenizer, messages, True)
    for words in ANSWERS:
        said = [*messages, {"role": "assistant", "content": words}]
        ours = rendered(tokenizer, said, False)
        further = rendered(tokenizer, [*said, {"role": "user", "content": reply}], True)
        if not ours.startswith(opening + words) or not further.startswith(ours):
            place = next((k for k, (a, b) in enumerate(zip(ours, further, strict=False)) if a != b), len(opening))
            raise LogpiError(
                "The chat template rewrites earlier turns when one is added (at"
                f" {short(repr(ours[max(0, place - 20) : place + 20]))}): an episode of several turns needs one that only adds"
                " text; change chat_template.jinja so that it keeps every turn as it was said, thoughts included."
            )
        rest = further[len(opening + words) :]
    before, end, behind = rest.partition(tokenizer.eos_token)
    return behind if end and not before.strip() else rest


def rendered(tokenizer: Any, messages: Messages, goes_on: bool) -> str:
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=goes_on)
    return text
