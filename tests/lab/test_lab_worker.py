"""One process computes, within its quota, and is replaced when it was killed."""

import asyncio
import json
import os
import sys
import threading
import time

import pytest
from asgi import ask, guarded

from logpi.lab.demos import DEMOS
from logpi.lab.worker import Worker, answered, warm

SLOW = "import sys,time\nprint('ready',flush=True)\nfor x in sys.stdin:\n time.sleep(60 if 'long' in x else 0)\n print('200',x.strip(),flush=True)"
DYING = "import sys\nprint('ready',flush=True)\nsys.stdin.readline()"
FAKE = (sys.executable, "-c", SLOW)


def test_a_demonstration_answers_from_a_process_of_its_own():
    async def play():
        worker = Worker(quota=30)
        await worker.begin()
        first = await worker.ask({"name": "bandit", "params": {"moves": "s"}, "seed": 0})
        refused = await worker.ask({"name": "bandit", "params": {"lr": 99}, "seed": 0})
        beside = await worker.ask({"name": "bandit"})
        nice = os.getpriority(os.PRIO_PROCESS, worker.process.pid) - os.getpriority(os.PRIO_PROCESS, 0)
        await worker.close()
        return first, refused, beside, nice

    first, refused, beside, nice = asyncio.run(play())
    assert first[0] == 200 and len(json.loads(first[1])["pi"]) == 2
    assert refused[0] == 400 and b"lr is 99: allowed is a number from 0.01 to 2" in refused[1]
    assert beside[0] == 200 and json.loads(beside[1])["title"] == "Probabilities follow reward"
    assert nice == 10 or os.getpriority(os.PRIO_PROCESS, 0) > 9


def test_over_the_quota_it_is_killed_and_the_next_question_is_answered():
    async def play():
        worker = Worker(quota=0.3, command=FAKE)
        await worker.begin()
        first, began = worker.process, time.monotonic()
        late = await worker.ask({"name": "long"})
        took = time.monotonic() - began
        found = await worker.ask({"name": "short"})
        second = worker.process
        await worker.close()
        return late, took, found, first, second

    late, took, found, first, second = asyncio.run(play())
    assert late[0] == 504 and b"more than 0.3 seconds" in late[1] and took < 5
    assert found == (200, b'{"name": "short"}')
    assert first.pid != second.pid and first.returncode is not None and second.returncode is not None


def test_fifty_at_once_are_a_short_queue_and_a_sentence():
    async def play():
        worker = Worker(queue=8, command=FAKE)
        found = await asyncio.gather(*(worker.ask({"name": "short"}) for _ in range(50)))
        await worker.close()
        return found

    statuses = [status for status, _ in asyncio.run(play())]
    assert statuses.count(200) == 8 and statuses.count(429) == 42


def test_a_process_that_ended_is_said_and_replaced():
    async def play():
        worker = Worker(command=(sys.executable, "-c", DYING))
        found = [await worker.ask({"name": "short"}) for _ in range(2)]
        await worker.close()
        return found

    assert all(status == 500 and b"has ended" in text for status, text in asyncio.run(play()))


@pytest.mark.parametrize(("question", "killed"), [("long", True), ("short", False)])
def test_who_went_away_leaves_no_answer_for_the_next_and_no_work_behind(question, killed):
    async def play():
        worker = Worker(command=FAKE, grace=0.5)
        await worker.begin()
        first = worker.process
        gone = asyncio.create_task(worker.ask({"name": question, "of": "who went away"}))
        behind = asyncio.create_task(worker.ask({"name": "long", "of": "who goes before it begins"}))
        await asyncio.sleep(0)
        gone.cancel()
        behind.cancel()
        await asyncio.gather(gone, behind, return_exceptions=True)
        found = await worker.ask({"name": "short"})
        same = worker.process is first
        await worker.close()
        return found, worker.waiting, gone.cancelled(), same

    assert asyncio.run(play()) == ((200, b'{"name": "short"}'), 0, True, not killed)


def test_a_reader_who_leaves_takes_the_question_along():
    class Slow:
        ended = False

        async def ask(self, question):
            try:
                await asyncio.sleep(20)
            finally:
                self.ended = True

    worker, began = Slow(), time.monotonic()
    ask(guarded(worker=worker), path="/api/demos/bandit", messages=0)
    assert worker.ended and time.monotonic() - began < 5


def test_each_page_is_drawn_once_between_two_questions(monkeypatch):
    drawn, one = [], threading.Lock()
    monkeypatch.setattr("logpi.lab.worker.answered", lambda question: drawn.append((question["name"], one.locked())))
    thread = threading.Thread(target=warm, args=(one,))
    with one:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not drawn
    thread.join(60)
    assert drawn == [(name, True) for name in DEMOS]


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({"name": "nothing"}, 404),
        ({"name": "../bandit"}, 404),
        ({"name": "bandit", "params": {}, "seed": "0"}, 400),
        ({"name": "bandit", "params": {"moves": []}, "seed": 0}, 400),
        ({"name": "bandit", "params": {"__class__": 1}, "seed": 0}, 400),
    ],
)
def test_a_bad_question_is_one_sentence(question, status):
    found, text = answered(question)
    assert found == status and json.loads(text)["error"].endswith(".")


def test_a_bug_in_a_demonstration_is_called_one(monkeypatch):
    from logpi.lab.demos import bandit

    monkeypatch.setattr(bandit, "demo", lambda params, seed: 1 / 0)
    status, text = answered({"name": "bandit", "params": {}, "seed": 0})
    assert status == 500 and b"this is a bug of logpi" in text
