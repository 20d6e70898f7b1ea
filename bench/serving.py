"""The server under several clients: eight requests at once compared with one alone.

`sample --serve` runs the six-layer model of the section `decode`. In turn one client and then eight ask for a completion
each, of prompts and seeds of their own, and wait for it; the tokens are those that the answers count.
"""

import concurrent.futures
import http.client
import json
import re
import statistics
import subprocess
import sys
import time

import decode

NAME = "serving"
PEERS = decode.PEERS
MODEL = "c384-v30000"
N_CLIENTS = 8
N_TOKENS = 150
# Long enough for the last client on a slow machine.
SECONDS = 120


def add_arguments(parser):
    pass


def complete(port, client):
    """Requests one completion; returns its number of tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    request = dict(prompt=" there was" * (client + 1), max_tokens=N_TOKENS, seed=client, temperature=0.8)
    connection.request("POST", "/v1/completions", json.dumps(request), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        sys.exit(f"the server answered {answer.status}: {body}")
    return body["usage"]["completion_tokens"]


def throughput(port, n_clients):
    """Tokens per second of this many clients together."""
    with concurrent.futures.ThreadPoolExecutor(n_clients) as clients:
        start = time.perf_counter()
        n_tokens = sum(clients.map(lambda client: complete(port, client), range(n_clients)))
        return n_tokens / (time.perf_counter() - start)


def port_of(server):
    """The port that the server prints."""
    for line in server.stdout:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found:
            return int(found[1])
    sys.exit(f"the server ended with status {server.wait()} and named no address")


def run(context):
    sample, folder = context.build("sample", kind="bin"), decode.model(MODEL, context)
    command = [sample, "--checkpoint", folder, "--serve", "127.0.0.1:0", "--threads", str(context.args.threads)]
    speeds = {1: [], N_CLIENTS: []}
    lines = [context.machine(), ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            port = port_of(server)
            throughput(port, N_CLIENTS)
            for turn in range(context.args.turns):
                for n_clients, of in speeds.items():
                    of.append(throughput(port, n_clients))
                latest = ", ".join(f"{of[-1]:.0f}" for of in speeds.values())
                print(f"serving {turn + 1}/{context.args.turns}: {latest} tokens/s", file=sys.stderr)
        finally:
            server.terminate()
    ratios = sorted(many / one for one, many in zip(*speeds.values()))
    one, many = (f"{statistics.median(of):,.0f}" for of in speeds.values())
    lines += [f"| model | 1 client, tokens/s | {N_CLIENTS} clients, tokens/s | ratio | ratios of the turns |"]
    lines += ["|---" * 5 + "|"]
    lines += [f"| {MODEL} | {one} | {many} | **{statistics.median(ratios):.2f}** | {ratios[0]:.2f} to {ratios[-1]:.2f} |"]
    return lines
