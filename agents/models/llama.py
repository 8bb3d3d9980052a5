"""The process that serves one GGUF file with llama.cpp. `agents.models.local` starts it by path; it imports nothing of Leafmill.

It is a process of its own because loading holds the interpreter's lock for seconds, because stopping a server that is in the middle
of a reply waits for that reply, and because a crash in native code is then an endpoint that went down, not the end of the run.

In: one JSON argument, the settings; then it lives until its standard input closes, so it never outlives whoever started it.
Out: one JSON line, {"address": "http://127.0.0.1:PORT"} once it answers, or {"error": "..."}.
"""

import json
import os
import sys

# Read when OpenMP loads. Threads that wait for long must sleep, or on a busy machine nothing gets done; but there are hundreds of short
# waits in every token, and to sleep in each of those costs more than a short spin. So: spin a little, then sleep.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["GOMP_SPINCOUNT"] = "1000"


def main() -> None:
    import xllamacpp

    settings = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.port = 0
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = settings["prompt_cache"]
    params.fit_params = False  # it would cut the context to fit; what was asked for is given, or fails
    params.warmup = False
    params.ui = False
    params.offline = True
    params.verbosity = -1
    try:
        server = xllamacpp.Server(params)
        answer = {"address": server.listening_address}
    except RuntimeError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if "address" in answer:
        sys.stdin.read()
    os._exit(0)  # without waiting for replies that nobody will read


if __name__ == "__main__":
    main()
