"""Each call of a folder becomes a transcript, its transcript a summary and a rating: three tasks of the configuration's own.

Usage: sum_up.py [FOLDER]      (without one, the calls of the folder beside this file, spoken by flite)
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import uuid
import wave

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from fleet import Api, fleet, free_port  # noqa: E402

CONFIG = """
[pools.speech]
providers   = ["whisper"]
concurrency = 1

[pools.chat]
providers   = ["smollm2"]
concurrency = 2

[providers.whisper]
kind     = "openai"
base_url = "http://127.0.0.1:{speech}/v1"
models   = ["openai/whisper-tiny.en"]

[providers.smollm2]
kind     = "openai"
base_url = "http://127.0.0.1:{chat}/v1"
models   = ["smollm2-135m"]

[tasks.call_transcript]
kind = "transcription"
pool = "speech"

[tasks.transcript_summary]
kind = "chat"
pool = "chat"
[tasks.transcript_summary.input]
system      = "You sum up telephone calls."
temperature = 0
max_tokens  = 80

[tasks.call_analysis]
kind   = "chat"
pool   = "chat"
schema = '''{{
  "type": "object", "additionalProperties": false, "required": ["topic", "mood", "score"],
  "properties": {{
    "topic": {{"enum": ["complaint", "invoice", "appointment", "question", "other"]}},
    "mood": {{"enum": ["pleased", "neutral", "angry"]}},
    "score": {{"type": "integer", "minimum": 1, "maximum": 5}}
  }}
}}'''
[tasks.call_analysis.input]
system      = "You rate telephone calls: the topic, the customer's mood, and how well the agent helped, from 1 to 5."
temperature = 0
max_tokens  = 60
"""
# What each task asks of the text. Small models follow what stands beside it better than a system prompt.
QUESTIONS = {
    "transcript_summary": "Summarize the following telephone call in one sentence:",
    "call_analysis": "What is the following telephone call about, and how did it go?",
}
VOICES = {"agent": "slt", "customer": "rms"}
SOUNDS = {".wav", ".mp3", ".flac", ".ogg", ".m4a", ".webm"}
# A slot of the chat model holds 2048 tokens; of a longer call the parts are summed up first.
PART_CHARS_MAX = 4000


def speak(script: pathlib.Path, into: pathlib.Path) -> None:
    """Has a call spoken, each side by a voice of its own, into one WAV file."""
    line_file = into.with_suffix(".line")
    with wave.open(str(into), "wb") as call:
        for number, line in enumerate(script.read_text().splitlines()):
            who, _, words = line.partition(": ")
            subprocess.run(["flite", "-voice", VOICES[who], "-t", words, "-o", line_file], check=True)
            with wave.open(str(line_file), "rb") as spoken:
                if number == 0:
                    call.setparams(spoken.getparams())
                call.writeframes(spoken.readframes(spoken.getnframes()))
    line_file.unlink()


def upload(api: Api, recording: pathlib.Path) -> str:
    """Submits the transcription of a file as multipart/form-data; gives the job's id."""
    job = {"task": "call_transcript", "owner": {"service": "calls", "ref": recording.stem[:64]}}
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="job"\r\n\r\n{json.dumps(job)}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="call{recording.suffix}"\r\n\r\n'
    )
    body = head.encode() + recording.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return api.post("/api/v1/jobs/transcription", body, f"multipart/form-data; boundary={boundary}")["id"]


def submit(api: Api, task: str, call: str, text: str) -> str:
    """Submits a job of one of the configuration's tasks over this text; gives the job's id."""
    owner = {"service": "calls", "ref": call[:64]}
    job = {"task": task, "input": {"user": f"{QUESTIONS[task]}\n\n{text}"}, "owner": owner}
    return api.call("/api/v1/jobs", job)["id"]


def result(api: Api, job: str) -> dict:
    """What the job came to, once it has ended."""
    ended = {"completed_at": None}
    while ended["completed_at"] is None:
        ended = api.call(f"/api/v1/jobs/{job}?wait=60s")
    if ended["status"] != "completed":
        raise SystemExit(f"*** FAILED: {ended['task']} of {ended['owner']['ref']} is {ended['status']}: {ended['error']}")
    return ended["result"]


def parts(segments: list[dict]) -> list[str]:
    """The words of the segments, in as few parts as the chat model can read."""
    found = [""]
    for segment in segments:
        if found[-1] and len(found[-1]) + len(segment["text"]) > PART_CHARS_MAX:
            found.append("")
        found[-1] = f"{found[-1]} {segment['text'].strip()}".strip()
    return found


def answer(api: Api, task: str, call: str, text: str) -> str:
    """What the chat model says to this text."""
    return result(api, submit(api, task, call, text))["content"].strip()


def sum_up(api: Api, recordings: list[pathlib.Path]) -> None:
    """All recordings at once; each goes on as soon as it is written down."""
    for recording, job in [(recording, upload(api, recording)) for recording in recordings]:
        call, transcript = recording.stem, result(api, job)
        texts = parts(transcript["segments"])
        summaries = [submit(api, "transcript_summary", call, text) for text in texts]
        summaries = [result(api, job)["content"].strip() for job in summaries]
        whole = texts[0] if len(texts) == 1 else "\n".join(summaries)
        summary = summaries[0] if len(texts) == 1 else answer(api, "transcript_summary", call, whole[:PART_CHARS_MAX])
        rating = json.loads(answer(api, "call_analysis", call, whole[:PART_CHARS_MAX]))
        seconds = transcript["segments"][-1]["end"] if transcript["segments"] else 0
        print(f"==> {recording.name}: {seconds:.0f} s, written down in {transcript['duration_ms'] / 1000:.1f} s")
        print(f"    transcript  {' '.join(texts)[:160]} ...")
        print(f"    summary     {' '.join(summary.split())}")
        print(f"    analysis    topic {rating['topic']}, mood {rating['mood']}, score {rating['score']}", flush=True)
        if not texts[0] or not summary:
            raise SystemExit(f"*** FAILED: {recording.name} has no transcript or no summary")


def main() -> None:
    chat, speech = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="overshot-calls-") as made:
        if len(sys.argv) > 1:
            folder = pathlib.Path(sys.argv[1])
        else:
            folder = pathlib.Path(made)
            for script in sorted((HERE / "calls").glob("*.txt")):
                speak(script, folder / f"{script.stem}.wav")
        recordings = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS)
        if not recordings:
            raise SystemExit(f"*** FAILED: no recordings in {folder}")
        tools = os.environ["TOOLS_DIR"]
        servers = {
            "chat": ([f"{tools}/model/bin/python", "scripts/model-server/serve.py", str(chat)], chat),
            "speech": ([f"{tools}/speech/bin/python", "scripts/speech-server/serve.py", f"{made}/cache", str(speech)], speech),
        }
        with fleet(CONFIG.format(chat=chat, speech=speech), servers) as api:
            print(f"==> calls: {len(recordings)}; of each the transcript, a summary and a rating", flush=True)
            sum_up(api, recordings)


if __name__ == "__main__":
    main()
