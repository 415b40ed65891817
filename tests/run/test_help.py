"""The help: it knows both worlds, and every flag has its line."""

import ast
from pathlib import Path

import logpi
from logpi.run.cli import HELP

ROOT = Path(logpi.__file__).parent


def test_the_help_of_train_names_language_models(call):
    assert "or a language model on a task" in HELP and "also of a model folder" in HELP
    for line, words in (
        (("train",), "Language models: logpi train METHOD --task NAME --help"),
        (("train", "grpo", "--help"), "Language models: logpi train grpo --task NAME --help"),
    ):
        assert words in call(*line)[1]
    told = call("train", "grpo", "--task", "copy", "--help")[1]
    assert "--data" in told and "Language models:" not in told


def fields(text: str) -> list[ast.AnnAssign]:
    records = [x for x in ast.walk(ast.parse(text)) if isinstance(x, ast.ClassDef)]
    pages = [x for x in records if any(ast.unparse(d) == "page" for d in x.decorator_list)]
    return [x for record in pages for x in record.body if isinstance(x, ast.AnnAssign)]


def test_a_field_is_one_line_with_its_explanation():
    """The command reads what stands behind a field on its line: behind a parenthesis it would be lost."""
    for file in ROOT.rglob("*.py"):
        lines = (text := file.read_text()).splitlines()
        for field in fields(text):
            assert field.lineno == field.end_lineno and "# " in lines[field.lineno - 1], ast.unparse(field)
