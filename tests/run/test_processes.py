"""Processes that carry out commands one after another: what each said, and what happens to one that dies."""

import signal

import logpi
from logpi.run import processes
from logpi.run.processes import Process, another, wait


def test_commands_are_carried_out_in_turn_and_say_what_they_say_alone():
    with Process() as process:
        assert process.carry_out(["--version"]) == (0, f"logpi {logpi.__version__}\n")
        assert process.carry_out(["nonsense"]) == (2, "")
        assert process.complaints() == ["logpi: There is no command 'nonsense'. Did you mean tokens?"]
        code, printed = process.carry_out(["methods"])
        assert code == 0 and "grpo" in printed and process.complaints() == []


def test_one_that_was_killed_says_so_and_takes_nothing_more():
    with Process() as process:
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        assert process.carry_out(["methods"]) == (-signal.SIGKILL, "")
        wait([process], 60)


def test_there_is_no_answer_before_there_is_one():
    with Process() as process:
        assert process.answer(0) is None
        process.begin(["--version"])
        wait([process], 60)
        assert process.answer(0)[0] == 0


def test_another_process_lives_for_one_command_and_where_this_one_serves_for_all(monkeypatch):
    with another() as first:
        pass
    assert first.process.poll() is not None
    monkeypatch.setattr(processes, "_serving", True)
    with another() as one:
        pass
    with another() as same:
        assert same is one and one.process.poll() is None
        one.process.kill()
        one.process.wait()
    with another() as fresh:
        assert fresh is not one
    monkeypatch.setattr(processes, "_serving", False)
    with another() as last:
        assert last is fresh
    assert last.process.poll() is not None and processes._other is None
