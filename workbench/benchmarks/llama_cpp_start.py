"""The first token of llama.cpp in a new process: ``python -m workbench.benchmarks.llama_cpp_start FILE PROMPT``.

Nothing is imported that llama.cpp does not need, because the whole process is measured.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

_CONTEXT = 2048


def main(path: str, prompt: str) -> None:
    """Load a GGUF file, and print the token that follows a prompt."""
    import xllamacpp

    from workbench.machine import thread_count

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = 1
    params.n_ctx = _CONTEXT
    params.fit_params = False
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = thread_count()
    params.verbosity = -1
    server = xllamacpp.Server(params)
    address = urlsplit(server.listening_address)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    body = {"prompt": prompt, "n_predict": 1, "temperature": 0}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    sys.stdout.write(json.loads(connection.getresponse().read())["content"])
    sys.stdout.flush()
    os._exit(0)  # the server's threads would be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
