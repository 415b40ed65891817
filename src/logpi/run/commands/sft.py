"""logpi sft"""

from logpi.page import page
from logpi.run.fitting import Fitting, held_out, keep, letters_of, place, prepared, told
from logpi.run.flags import parse


@page
class Sft(Fitting):
    """Supervised fine-tuning: raise log pi of a task's answers, or of data with columns prompt and completion (or answer).

    What comes out is a Hugging Face folder, model and tokenizer, for logpi train METHOD --model.
    """


def main(args: list[str]) -> None:
    given = parse(Sft, args, "logpi sft")
    task = prepared(given)
    import torch

    from logpi.lm import pretrained, sft
    from logpi.policy.tokens import Tokens

    letters = letters_of(task) if given.model in pretrained.SIZES else ""
    model, tokenizer = pretrained.begin(given.model, letters, given.seed)
    policy = Tokens(model.eval(), tokenizer, bf16=given.bf16)
    place(policy.model, given)
    policy.quicken()
    held, name = held_out(task, given.seed, "example")
    test = sft.shown(policy, task, held)
    micro = given.micro or policy.at_once()
    losses = sft.fit(policy, task, given.seed, given.steps, given.rows, given.lr, micro)
    first, last = told(losses, given.steps)
    with torch.no_grad():
        beyond = -float(sum(sft.loss(policy, test, micro)))
    keep(policy.model, policy.tokenizer, given)
    print(f"{given.where}: loss per token {first:.4f} -> {last:.4f}; {name} ({len(held)} answers): {beyond:.4f}")
    more = "" if task.limit else " --max-tokens N"
    print(f"written to {given.out}; next: logpi train grpo {given.source}{more} --model {given.out}")
