"""Peak memory of log-probs and their backward pass: the head in chunks beside the full matrix of logits.

    python benchmarks/logprob_memory.py

Each number is the growth of a fresh process's peak over what it held before, at a vocabulary of 151,936 in
fp32. The full matrix is only measured while it fits; above that its line through the measured sizes is
continued, and marked so.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import psutil
from rich.console import Console
from rich.table import Table

VOCABULARY, HIDDEN = 151_936, 256
SIZES = (4096, 16_384, 32_768)
FULL_SIZES = (1024, 2048, 4096)


def main() -> None:
    arguments = _arguments()
    if arguments.measure:
        print(json.dumps(_measure(*arguments.measure.split(":"), arguments.chunk)))
        return
    full = {tokens: _child("full", tokens, arguments.chunk) for tokens in FULL_SIZES}
    (low, first), (high, last) = ((t, full[t]["bytes"]) for t in (FULL_SIZES[0], FULL_SIZES[-1]))
    slope = (last - first) / (high - low)
    table = Table(
        "tokens", "full matrix, GB", "in chunks, GB", "share", "seconds in chunks", title=_title(arguments)
    )
    for tokens in SIZES:
        chunked = _child("chunked", tokens, arguments.chunk)
        whole = full[tokens]["bytes"] if tokens in full else first + slope * (tokens - low)
        mark = "" if tokens in full else " (continued)"
        share = chunked["bytes"] / whole
        cells = [f"{whole / 1e9:.1f}{mark}", f"{chunked['bytes'] / 1e9:.2f}", f"1/{1 / share:.0f}"]
        table.add_row(str(tokens), *cells, f"{chunked['seconds']:.1f}")
    Console().print(table)


def _title(arguments: argparse.Namespace) -> str:
    return (
        f"log-probs and backward, vocabulary {VOCABULARY}, hidden {HIDDEN}, fp32, chunks of {arguments.chunk}"
    )


def _child(kind: str, tokens: int, chunk: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", f"{kind}:{tokens}", "--chunk", str(chunk)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(kind: str, tokens: str, chunk: int) -> dict[str, float]:
    import torch

    from vlrl.policy.logprobs import token_logprobs

    torch.manual_seed(0)
    hidden = torch.randn(int(tokens), HIDDEN, requires_grad=True)
    weight = (torch.randn(VOCABULARY, HIDDEN) * 0.02).requires_grad_()
    targets = torch.randint(VOCABULARY, (int(tokens),))
    # Gradients exist on both sides before and after; they are not what is compared.
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    if kind == "full":
        logits = hidden @ weight.T
        logprobs = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    else:
        logprobs, _ = token_logprobs(hidden, weight, targets, chunk=chunk)
    logprobs.sum().backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes": peak - before, "seconds": time.perf_counter() - started}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunk", type=int, default=1024, help="tokens whose logits exist at a time")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
