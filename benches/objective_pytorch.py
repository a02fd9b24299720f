"""The objective beside PyTorch eager: same machine, threads and inputs, forward and backward, taking turns.

    python benches/objective_pytorch.py [--threads N] [--rounds N]

builds the Rust bench (no LibTorch needed), then for every shape lets PyTorch and sami-core run in turn and prints, from
each one's fastest round: nanoseconds per entry of L, the ratio, and the distance to the floor (one pass that reads L and
writes G). PyTorch runs two ways to write the loss: log_softmax and its diagonal, as the paper's code does, and cross_entropy.
Results are compared as well as times.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [(1_000_000, 2), (200_000, 4), (4096, 64), (1, 4096)]


def by_log_softmax(logps):
    rows = F.log_softmax(logps, -1).diagonal(dim1=1, dim2=2)
    cols = F.log_softmax(logps, -2).diagonal(dim1=1, dim2=2)
    return -(rows.mean() + cols.mean()) / 2


def by_cross_entropy(logps):
    b, c, _ = logps.shape
    targets = torch.arange(c).expand(b, c)
    return (F.cross_entropy(logps, targets) + F.cross_entropy(logps.transpose(1, 2), targets)) / 2


def torch_step(loss_of, leaf):
    begun = time.perf_counter()
    loss = loss_of(leaf)
    (grad,) = torch.autograd.grad(loss, leaf)
    return time.perf_counter() - begun, loss.item(), grad


def bench_binary():
    command = ["cargo", "bench", "--bench", "objective", "--no-default-features", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "objective":
            return message["executable"]
    sys.exit("cargo built no bench named objective")


class Rust:
    def __init__(self, binary, threads):
        self.process = subprocess.Popen([binary, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={"RAYON_NUM_THREADS": str(threads)})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--binary", help="the built bench, if not to be built here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rust = Rust(options.binary or bench_binary(), options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, fastest of {options.rounds} rounds\n")
    print("| B | C | PyTorch, log_softmax | PyTorch, cross_entropy | sami-core | ratios | floor | × floor |")
    print("|---|---|---|---|---|---|---|---|")
    for b, c in SHAPES:
        generator = torch.Generator().manual_seed(1)
        leaf = (torch.rand(b, c, c, generator=generator) * -4).requires_grad_()
        with tempfile.NamedTemporaryFile() as file:
            file.write(leaf.detach().numpy().tobytes())
            file.flush()
            assert rust.ask(f"load {b} {c} {file.name}") == "loaded"
        times = {"log_softmax": [], "cross_entropy": [], "objective": [], "floor": []}
        for _ in range(options.rounds):
            seconds, loss, grad = torch_step(by_log_softmax, leaf)
            times["log_softmax"].append(seconds)
            times["cross_entropy"].append(torch_step(by_cross_entropy, leaf)[0])
            for what in ("objective", "floor"):
                times[what].append(float(rust.ask(what)))
        found = [float(x) for x in rust.ask("loss").split()]
        size = grad.double().abs().sum().item()
        assert abs(found[0] - loss) < 1e-5 * loss and abs(found[1] - size) < 1e-5 * size, (found, loss, size)
        ns = {what: min(seconds) / (b * c * c) * 1e9 for what, seconds in times.items()}
        softmax, entropy, ours, floor = ns.values()
        print(f"| {b:,} | {c} | {softmax:.1f} | {entropy:.1f} | {ours:.2f} | {softmax / ours:.0f} ×, {entropy / ours:.0f} × | "
              f"{floor:.2f} | {ours / floor:.1f} |", flush=True)


main()
