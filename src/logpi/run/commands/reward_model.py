"""logpi reward-model"""

from logpi.fast import attention
from logpi.page import page
from logpi.run.fitting import Fitting, held_out, keep, letters_of, place, prepared, told
from logpi.run.flags import parse

HOW = "--kl 0.5 --value-coef 0.02 --lr 3e-4 --envs 64"  # rewards are large, and the critic shares the model's body


@page
class RewardModel(Fitting):
    """A reward learned from preferences: a task's own, or data with columns prompt, chosen and rejected.

    The loss is Bradley and Terry's, -log sigma( r(chosen) - r(rejected) ). What comes out is a Hugging Face folder for
    logpi train METHOD --reward-model; --model is what to begin with, best the folder of logpi sft.
    """

    task: str = "sentiment-toy"  # one with preferences, or ./file.py:MyTask


def main(args: list[str]) -> None:
    given = parse(RewardModel, args, "logpi reward-model")
    task = prepared(given)
    from logpi.lm import pretrained, reward_model

    judge = reward_model.begin(given.model, letters_of(task) if given.model in pretrained.SIZES else "", given.seed)
    judge.bf16 = given.bf16
    place(judge.model, given)
    attention.use(judge.model)
    held, name = held_out(task, given.seed, "preference")
    for pair in held:
        reward_model.checked(pair)
    judge.micro = given.micro or judge.at_once()
    losses = reward_model.fit(judge, task, given.seed, given.steps, given.rows, given.lr, judge.micro)
    first, last = told(losses, given.steps)
    right = reward_model.accuracy(judge, held)
    keep(judge.model, judge.tokenizer, given)
    print(f"{given.where}: loss {first:.4f} -> {last:.4f}; accuracy {right:.3f} on {len(held)} pairs {name}")
    model = given.model if given.model not in pretrained.SIZES else "DIR"
    more = "" if task.limit else " --max-tokens N"
    line = f"logpi train ppo {given.source}{more} --model {model} --reward-model {given.out} {HOW}"
    print(f"written to {given.out}; next: {line}")
