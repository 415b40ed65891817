"""The lab on a port of this machine."""

import importlib
import secrets
import socket
import sys
import webbrowser
from pathlib import Path

from logpi.errors import LogpiError
from logpi.lab.guard import LOCAL, Guard

CONNECTIONS = 256
HEADER = 16_384  # bytes of a request's head


def serve(runs: Path, port: int, host: str, allow_remote: bool, open_it: bool) -> None:
    """Until Ctrl-C. The link holds the token in its fragment, which no browser sends and no log keeps."""
    hosts = hosts_for(host, allow_remote)
    must_be_installed()
    import uvicorn

    from logpi.lab.app import lab
    from logpi.lab.worker import Worker

    token = secrets.token_urlsafe(32)
    with listening(host, port) as door:
        shown = host if host in LOCAL else hosts[-1]
        link = f"http://{shown}:{door.getsockname()[1]}/#token={token}"
        config = uvicorn.Config(
            Guard(lab(runs, Worker()), token, hosts),
            http="h11",
            ws="none",
            h11_max_incomplete_event_size=HEADER,
            limit_concurrency=CONNECTIONS,
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        print(f"logpi lab is at {link}\nCtrl-C ends it.", flush=True)
        if open_it:
            webbrowser.open(link)
        uvicorn.Server(config).run(sockets=[door])


def must_be_installed() -> None:
    try:
        for name in ("starlette", "uvicorn"):
            importlib.import_module(name)
    except ModuleNotFoundError as without:
        raise LogpiError('The lab needs starlette and uvicorn: pip install "logpi[lab]".') from without


def hosts_for(host: str, allow_remote: bool) -> tuple[str, ...]:
    """The names by which the lab may be asked for; what other machines can reach needs a word of its own."""
    if host in LOCAL:
        return LOCAL
    if not allow_remote:
        raise LogpiError(
            f"--host {host} would open the lab to other machines: ssh -L 8000:127.0.0.1:8000 reaches it without, "
            "--allow-remote does it all the same."
        )
    own = socket.gethostname().lower()
    hosts = tuple(dict.fromkeys((*LOCAL, own) if host == "0.0.0.0" else (*LOCAL, own, host.lower())))
    print(f"logpi: other machines can reach the lab at {hosts[-1]}; the token travels unencrypted.", file=sys.stderr)
    return hosts


def listening(host: str, port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
        door.listen()
    except (OSError, OverflowError) as wrong:
        door.close()
        raise LogpiError(f"The lab cannot listen at {host}:{port} ({wrong}): --port 0 takes any free one.") from wrong
    return door
