"""`logpi lab`: on this machine only unless told, by a link whose token no log keeps."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from logpi.errors import LogpiError
from logpi.lab import serve
from logpi.run.commands import lab


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org"])
def test_another_host_is_refused_without_the_word_for_it(host, monkeypatch):
    with pytest.raises(LogpiError, match="ssh -L .* reaches it without, --allow-remote"):
        lab.main(["--host", host])


def test_with_the_word_it_warns_and_still_names_its_hosts(capsys):
    hosts = serve.hosts_for("192.168.0.1", True)
    assert "192.168.0.1" in hosts and "evil.example" not in hosts
    assert "0.0.0.0" not in serve.hosts_for("0.0.0.0", True)
    assert "the token travels unencrypted" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(LogpiError, match="cannot listen at 127.0.0.1:.*--port 0"):
            serve.listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(LogpiError, match="cannot listen"):
        serve.listening("127.0.0.1", 99999)


def test_without_its_extra_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(LogpiError, match=r'pip install "logpi\[lab\]"'):
        lab.main([])


@pytest.fixture
def process(tmp_path):
    command = [sys.executable, "-m", "logpi", "lab", "--runs", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_it_serves_its_link_and_leaves_nothing_behind(process):
    port, token = re.search(r"http://127\.0\.0\.1:(\d+)/#token=(\S+)", process.stdout.readline()).groups()
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.request("GET", "/api/lab")
    refused = connection.getresponse()
    assert refused.status == 401 and refused.read()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    connection.request("POST", "/api/demos/bandit", json.dumps({"params": {"moves": "0"}, "seed": 1}), headers)
    answer = connection.getresponse()
    assert answer.status == 200 and answer.getheader("server") is None
    assert len(json.loads(answer.read())["pi"]) == 2
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    connection.close()
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as huge:
        huge.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000)
        assert huge.recv(100).startswith(b"HTTP/1.1 400")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert token not in out + err and len(children) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(children[0]), 0)
