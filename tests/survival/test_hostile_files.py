"""Tensors, JSON and manifests made to break their readers: one sentence, under a second, under 50 MB."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exams_damage as exam
import pytest
import torch
from forged import facts, forge, refusal
from safetensors.torch import load_file, save

import logpi
from logpi.run import checkpoint
from logpi.run.load import LATER


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam.small_run(tmp_path_factory.mktemp("runs"), steps=64, save_every=32, keep=1)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def last(run: Path) -> Path:
    return exam.checkpoints(run)[-1]


# Row 3: tensors


def tensor_file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype: str, shape: list[int], end: int) -> bytes:
    return tensor_file({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}, bytes(end))


NOTHING = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
BROKEN = {
    "header of 2^62 bytes": (
        lambda: struct.pack("<Q", 2**62) + b"{}",
        "its header claims 4,611,686,018,427,387,904 bytes.",
    ),
    "header of 2^64 - 1": (lambda: b"\xff" * 8 + b"{}", "its header claims 18,446,744,073,709,551,615 bytes."),
    "header longer than the file": (
        lambda: struct.pack("<Q", 999) + b"{}",
        "Error while deserializing: invalid header length.",
    ),
    "shape overflow": (
        lambda: one("F32", [2**40, 2**40], 4),
        "Error while deserializing: overflow computing buffer size from shape and/or element type.",
    ),
    "more bytes than there are": (
        lambda: tensor_file({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, b"0000"),
        "Error while deserializing: ",
    ),
    "dtype mismatch": (
        lambda: one("F64", [1], 4),
        "Error while deserializing: invalid shape, data type, or offset for tensor.",
    ),
    "unknown dtype": (lambda: one("OBJ", [1], 4), "Error while deserializing: invalid JSON in header: "),
    "negative shape": (lambda: one("F32", [-1], 4), "Error while deserializing: invalid JSON in header: "),
    "overlap": (
        lambda: tensor_file({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, b"0000"),
        "Error while deserializing: invalid offset for tensor",
    ),
    "bytes of nobody": (lambda: one("F32", [1], 4) + b"0000", "Error while deserializing: "),
    "header that is no JSON": (lambda: tensor_file(b"\x80\x04."), "Error while deserializing: "),
    "empty": (lambda: b"", "Error while deserializing: header too small."),
    "dtype that torch has not": (lambda: one("F4", [2], 1), "'F4'."),
}


@pytest.mark.parametrize("name", ["policy.safetensors", "trainer.safetensors"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_malicious_tensor_file_is_one_sentence(case: str, name: str, last: Path) -> None:
    make, ending = BROKEN[case]
    forge(last, {name: make()})
    reader = logpi.load if name.startswith("policy") else logpi.resume
    assert refusal(reader, last).startswith(f"{last / name} cannot be read: {ending}")


@pytest.mark.parametrize("name", ["policy.safetensors", "trainer.safetensors"])
def test_a_million_tensors_are_refused_unread(name: str, last: Path) -> None:
    forge(last, {name: tensor_file(b"{" + b",".join(b'"%d":%s' % (i, NOTHING) for i in range(10**6)) + b"}")})
    said = f"{last / name} cannot be read: its header claims 56,888,891 bytes."
    assert refusal(logpi.load if name.startswith("policy") else logpi.resume, last) == said


# Row 5: tensors of another network, numbers that are none


def altered(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "policy.safetensors")
    change(tensors)
    forge(folder, {"policy.safetensors": save(tensors)})


def test_a_tensor_that_does_not_fit_is_named(last: Path) -> None:
    file = last / "policy.safetensors"
    whole = file.read_bytes()
    changes = {
        f"{file} has no tensor network.2.bias: is it of another network?": lambda t: t.pop("network.2.bias"),
        f"{file} has a strange tensor network.3.bias: is it of another network?": lambda t: t.update(
            {"network.3.bias": torch.zeros(2)}
        ),
        f"The tensor network.2.bias in {file} is [3] of float32, the network's is [2] of float32: is it of another one?": (
            lambda t: t.update({"network.2.bias": torch.zeros(3)})
        ),
        f"The tensor network.2.bias in {file} is [2] of int64, the network's is [2] of float32: is it of another one?": (
            lambda t: t.update({"network.2.bias": torch.zeros(2, dtype=torch.int64)})
        ),
    }
    for sentence, change in changes.items():
        altered(last, change)
        assert refusal(logpi.load, last) == refusal(logpi.resume, last) == sentence
        forge(last, {"policy.safetensors": whole})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["network.0.weight", "normaliser.mean"])
def test_weights_that_are_no_numbers_are_named_and_taken_only_when_asked_for(
    name: str, number: float, last: Path
) -> None:
    altered(last, lambda t: t[name].view(-1)[1:2].fill_(number))
    said = f"The tensor {name} in {last / 'policy.safetensors'} holds NaN or inf: use another checkpoint."
    assert refusal(logpi.load, last) == refusal(logpi.resume, last) == said
    policy = logpi.load(last, allow_nonfinite=True)
    assert not policy.state_dict()[name].isfinite().all()


def test_small_floats_that_torch_cannot_judge_are_judged_as_ours(last: Path) -> None:
    altered(last, lambda t: t.update({"network.2.bias": torch.full((2,), float("nan")).to(torch.float8_e4m3fn)}))
    said = f"The tensor network.2.bias in {last / 'policy.safetensors'} holds NaN or inf: use another checkpoint."
    assert refusal(logpi.load, last) == said


# Row 7: JSON


JSON = {
    "nested too deeply": (b'{"list":' + b"[" * 10**5 + b"]" * 10**5 + b"}", "it is nested too deeply."),
    "a key twice": (b'{"dict": [], "dict": []}', "a key stands in it twice."),
    "NaN": (b'{"a": NaN}', "NaN is not JSON."),
    "Infinity": (b'{"a": -Infinity}', "-Infinity is not JSON."),
    "a lone surrogate": (
        b'{"a": "\\ud800"}',
        "'utf-8' codec can't encode character '\\ud800' in position 7: surrogates",
    ),
    "no UTF-8": (b'{"a": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte."),
    "not JSON": (b"hello", "Expecting value: line 1 column 1 (char 0)."),
    "empty": (b"", "Expecting value: line 1 column 1 (char 0)."),
    "a number of 5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits)"),
}


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize("name", ["policy.json", "trainer.json", "manifest.json"])
def test_malicious_json_is_one_sentence(case: str, name: str, last: Path) -> None:
    data, ending = JSON[case]
    if name == "manifest.json":
        (last / name).write_bytes(data)
    else:
        forge(last, {name: data})
    for reader in (logpi.resume,) if name == "trainer.json" else (logpi.load,):
        assert refusal(reader, last).startswith(f"{last / name} cannot be read: {ending}")


@pytest.mark.parametrize("name", ["policy.json", "trainer.json", "config.toml"])
def test_a_gigabyte_of_json_is_not_read(name: str, last: Path) -> None:
    with (last / name).open("wb") as file:
        file.truncate(2**30)
    whole = facts(last)
    entries = whole["files"] | {name: {"bytes": 2**30, "sha256": "0" * 64}}
    (last / "manifest.json").write_bytes(checkpoint.seal(whole | {"files": entries}))
    assert refusal(logpi.load, last) == (
        f"{last / name} claims 1,073,741,824 bytes, more than is ever read: use another checkpoint."
    )


def test_a_gigabyte_of_manifest_is_not_read(last: Path) -> None:
    with (last / "manifest.json").open("wb") as file:
        file.truncate(2**30)
    assert refusal(logpi.load, last) == f"{last / 'manifest.json'} cannot be read: it is larger than 64 MB."


ENTRIES = dict.fromkeys(checkpoint.FILES, 5)
FACTS: list[dict[str, Any]] = [
    *({"files": x} for x in (None, 5, [{}], "x", ENTRIES, {name: {} for name in checkpoint.FILES})),
    *({"log": x} for x in ("x", {}, {"bytes": -5, "sha256": ""}, {"bytes": 1.5, "sha256": ""}, [])),
    *({"score": x} for x in ("high", [], {})),
    *({"finite": x} for x in (None, "yes")),
    *({"format": x} for x in ("2", None, [])),
    *({"step": x} for x in (None, 5, "step-000000000001", "../step")),
    {"more": 1},
]


def test_a_manifest_whose_sum_fits_but_whose_facts_are_of_another_kind_is_refused(run: Path, last: Path) -> None:
    manifest = facts(last)
    said = f"{last / 'manifest.json'} is damaged (it is not what was written): use another checkpoint."
    for changed in [*(manifest | f for f in FACTS), *({k: manifest[k] for k in manifest if k != x} for x in manifest)]:
        (last / "manifest.json").write_bytes(checkpoint.seal(changed))
        assert refusal(logpi.load, last) == said, changed
        assert refusal(exam.again, run) == f"{run} has no checkpoint that can be taken: {said}"
        checkpoint.prune(run / "checkpoints", 1)
        assert last.is_dir()


SPECS: list[Any] = [
    *({k: None} for k in ("head", "hidden", "shared", "normalise_obs", "observations", "actions", "dtype", *LATER)),
    *({"dtype": x} for x in ("load", "__class__", "int64", ["float32"])),
    *({"hidden": x} for x in ("ab", [1.5], [-4], [0], ["4"], {}, [True])),
    *({"observations": x} for x in ({}, {"low": ["1"], "high": ["x"], "dtype": "float32"}, [])),
    {"observations": {"low": ["1", ["2"]], "high": ["1"], "dtype": "float32"}},
    {"observations": {"low": ["0"], "high": ["1"], "dtype": "object"}},
    *({"actions": {"discrete": n, "start": 0}} for n in (-1, "2", None, 2.5)),
    {"more": 1},
    {"head": 5},
]


def test_a_policy_json_of_anything_else_is_one_sentence(last: Path) -> None:
    spec = json.loads((last / "policy.json").read_text())
    said = f"{last / 'policy.json'} does not describe a policy: use another checkpoint."
    for changed in [
        *(spec | s for s in SPECS),
        *({k: spec[k] for k in spec if k != x} for x in spec if x not in LATER),
        [],
        5,
        "x",
        None,
    ]:
        forge(last, {"policy.json": json.dumps(changed).encode()})
        assert refusal(logpi.load, last) == said, changed


@pytest.mark.parametrize("change", [{"hidden": [4_000_000]}, {"actions": {"discrete": 4_000_000, "start": 0}}], ids=str)
def test_a_network_larger_than_its_file_takes_no_memory(change: dict[str, Any], last: Path) -> None:
    spec = json.loads((last / "policy.json").read_text())
    forge(last, {"policy.json": json.dumps(spec | change).encode()})
    said = f"{last / 'policy.json'} claims a layer of 4,000,000: policy.safetensors holds none such."
    assert refusal(logpi.load, last) == said


def test_a_trainer_json_of_anything_else_is_one_sentence(last: Path) -> None:
    whole = json.loads((last / "trainer.json").read_text())
    said = f"{last / 'trainer.json'} does not hold the state of this run: use another checkpoint."
    parts = dict(whole["dict"])
    missing = [{"dict": [[k, v] for k, v in parts.items() if k != x]} for x in parts]
    strange = [{"dict": [[k, 5 if k == x else v] for k, v in parts.items()]} for x in parts]
    deep = json.loads('{"list": [' * 300 + "]}" * 300)
    for changed in [{}, [], 5, None, {"tensor": "x"}, {"array": "x"}, {"dict": [[]]}, deep, *missing, *strange]:
        forge(last, {"trainer.json": json.dumps(changed).encode()})
        assert refusal(logpi.resume, last) == said, changed
