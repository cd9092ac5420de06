"""Fifty questions about the documentation, each with the section that answers it, to measure retrieval with."""

from __future__ import annotations

import re
from pathlib import Path

QUESTIONS = (
    ("How many CPU cores and how much memory does a student's laptop need?", "classroom#Where the lessons run"),
    ("Can an exam be played on machines that could not run a model?", "classroom#Without any model: traces"),
    ("How do I verify the run that a student handed in?", "classroom#Check submissions"),
    ("Which environment variable is the folder of converted models?", "commands#Commands"),
    ("What is the exit code after Ctrl+C?", "commands#Commands"),
    ("How are packages copied to a computer without internet?", "offline#A machine without a network"),
    ("What is downloaded, and when?", "offline#Work offline"),
    ("Can I answer requests when there are no weights at all?", "offline#No model at all"),
    ("How do I keep a registered folder of weights served after a restart?", "own-model#Permanently"),
    ("Are folders with pickled weights or auto_map accepted?", "own-model#Details"),
    ("Try a checkpoint from a local folder just once", "own-model#For one command"),
    ("Which providers are available?", "providers#Provider types"),
    ("How many bytes does a weight take in int8?", "providers#Precisions"),
    ("Which servers support min_p and the repetition penalty?", "providers#Capabilities"),
    ("How do I distribute one large model over GPUs of two machines?", "ray#vLLM on a Ray cluster"),
    ("How many processes with a copy of the model does the pool have?", "ray#A pool of engines"),
    ("What happens to a stream if a worker process crashes?", "ray#When an actor dies"),
    ("Which provider type do I use for Ollama?", "remote-servers#Which type for which server"),
    ("When is a request to a server sent again after a failure?", "remote-servers#What to know"),
    ("How long does the client wait before it gives up connecting?", "remote-servers#The config"),
    ("Keep an API key out of the configuration file", "run-config#Secrets"),
    ("Two providers serve a model of the same name: which one answers?", "run-config#Names and registrations"),
    ("Is HTML in a model's answer rendered?", "security#Security"),
    ("Is traffic encrypted with TLS?", "security#What is not protected"),
    ("Which header carries the token that the server wants?", "serving#Access"),
    ("How many requests may be computed at once before the server says 429?", "serving#Limits"),
    ("What does status 501 mean?", "serving#Errors"),
    ("Does the official OpenAI client library work with it?", "serving#What is served"),
    ("Is the field reasoning_effort accepted?", "serving#OpenAI's fields"),
    ("In which respects does the behavior deviate from OpenAI's own API?", "serving#What differs from OpenAI"),
    ("Run a notebook again from recordings without changing its cells", "traces#An unchanged notebook"),
    ("Can I see the full distribution of a position when a trace is played?", "traces#What can be inspected"),
    ("What does a line of a trace file contain?", "traces#The format"),
    ("Which lesson should beginners start with?", "teaching#Which lesson for whom"),
    ("What should a teacher prepare before class?", "teaching#Before the lesson"),
    ("How can I have a function called by the model?", "tutorial#Let it call a function"),
    ("Choose a different token in an answer and go on from there", "tutorial#Continue from another token"),
    ("How improbable are the words of a given sentence?", "tutorial#Measure how surprising a text is"),
    ("In which order are temperature, top-p and the penalties applied?", "engine#Choosing a token"),
    ("How close is int4 to float32?", "engine#Precisions"),
    ("Does a batch give bit for bit the same as its requests alone?", "engine#What is exact"),
    ("How are keys and values of earlier turns reused?", "engine#Prefix cache"),
    ("Which pooling modes of sentence-transformers are supported?", "engine#Sentence models"),
    ("How is it guaranteed that an answer matches a JSON schema?", "engine#Formats"),
    ("What if a model does not fit into RAM?", "engine#Memory"),
    ("Does a test check that widgets are accessible?", "checking#Verify the claims"),
    ("Stop all work when the client goes away", "writing-a-provider#Handle cancellation"),
    ("Through which entry point group does a package add a provider?", "writing-a-provider#Use it in a run config"),
    ("Bet on the next token against the model", "widgets#PredictionGame"),
    ("Which modules may import which others?", "architecture#Import order"),
)  # fmt: skip

_HEADING = re.compile(r"#{1,3} (?P<title>.+)")


def sections(folder: Path) -> dict[str, str]:
    """Return the sections of all pages, by page and heading."""
    found: dict[str, str] = {}
    for page in sorted(folder.glob("*.md")):
        name, in_code = "", False
        for line in page.read_text(encoding="utf-8").splitlines(keepends=True):
            in_code ^= line.startswith("```")
            if not in_code and (match := _HEADING.match(line)):
                name = f"{page.stem}#{match['title'].strip()}"
            if name:
                found[name] = found.get(name, "") + line
    return found
