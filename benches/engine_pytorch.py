"""A training step beside the paper's arithmetic in PyTorch + transformers: same machine, weights, pairs and threads, taking turns.

    python benches/engine_pytorch.py --model DIR --pairs FILE [--dtype bf16 --threads 2 --rounds 7 --queries 1]

builds the Rust bench, then in every round measures the matrix-product rate and the copying rate, lets sami take a step, measures
again, and lets PyTorch take one (`--no-pytorch` leaves it out; its slow bf16 products take most of the time). Medians over
rounds: seconds per query, the ratio, and how far both the step and its floor are apart. The floor: 8 operations for each parameter
of the layers and packed token (recomputation included), 6 for each of the head and response token, at the f32 rate of that round
(bf16's where that is higher), and the optimizer's bytes at the copying rate. `--other BINARY` lets another build of the bench take
turns too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "fixtures"), str(ROOT / "benches" / "reference")]
import sami_reference as ref  # noqa: E402
from train_reference import DTYPES, query_loss  # noqa: E402


def bench_binary():
    command = ["cargo", "bench", "--bench", "engine", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "engine":
            return message["executable"]
    sys.exit("cargo built no bench named engine")


class Rust:
    def __init__(self, binary):
        self.process = subprocess.Popen([binary, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def step(self, first, queries):
        seconds, loss = map(float, self.ask(f"step {first} {queries}").split())
        return seconds, loss


class Machine:
    """What it can do at this moment: products of the layers' shapes, and copies."""

    def __init__(self, config, dtype, tokens):
        shapes = [(config.hidden_size, config.intermediate_size), (config.intermediate_size, config.hidden_size),
                  (config.hidden_size, config.hidden_size)]
        kinds = {torch.float32, dtype}
        self.products = {kind: [(torch.randn(tokens, i, dtype=kind), torch.randn(o, i, dtype=kind)) for i, o in shapes]
                         for kind in kinds}
        self.block = torch.randn(2**24)
        self.copy = torch.empty_like(self.block)

    def rates(self):
        flops = max(self.product_rate(pairs) for pairs in self.products.values())
        begin = time.perf_counter()
        for _ in range(4):
            self.copy.copy_(self.block)
        return flops, 4 * 2 * self.block.nbytes / (time.perf_counter() - begin)

    @staticmethod
    def product_rate(pairs, seconds=0.4):
        done, begin = 0, time.perf_counter()
        while (spent := time.perf_counter() - begin) < seconds:
            for a, b in pairs:
                a @ b.T
                done += 2 * a.shape[0] * b.shape[0] * b.shape[1]
        return done / spent


class PyTorch:
    def __init__(self, arguments, sets):
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=DTYPES[arguments.dtype])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-7)
        self.sets = sets

    def step(self, first, queries):
        begin, total = time.perf_counter(), 0.0
        for i in range(first, first + queries):
            loss = query_loss(self.model, *self.sets[i % len(self.sets)], keep_dtype=False) / queries
            loss.backward()
            total += loss.item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - begin, total


def packed_tokens(sequences, shape):
    """Tokens that shared prompts leave, and response tokens."""
    prompts, responses = shape
    rows = [sequences[c * responses : (c + 1) * responses] for c in range(prompts)]
    packed = sum(row[0][1] + sum(len(ids) - start for ids, start in row) for row in rows)
    return packed, sum(len(ids) - start for ids, start in sequences)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--queries", type=int, default=1, help="queries a step")
    parser.add_argument("--budget", default="", help="tokens at once, if not the default")
    parser.add_argument("--no-pytorch", action="store_true")
    parser.add_argument("--binary", help="the built bench, if not to be built here")
    parser.add_argument("--other", help="another build of the bench")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    sets = [
        (ref.encode_set(tokenizer, record), (len(record["prompts"]), len(record["responses"])))
        for record in ref.read_pairs(arguments.pairs)
    ]
    config = transformers.AutoConfig.from_pretrained(arguments.model)
    head = config.vocab_size * config.hidden_size
    peers = {"sami": Rust(arguments.binary or bench_binary())}
    if arguments.other:
        peers["other"] = Rust(arguments.other)
    for peer in peers.values():
        opened = f"open {arguments.threads} {arguments.dtype} {arguments.model} {arguments.pairs} {arguments.budget}"
        assert peer.ask(opened.strip()) == "opened"
    if not arguments.no_pytorch:
        peers["PyTorch"] = PyTorch(arguments, sets)
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    layers = parameters - head * (1 if config.tie_word_embeddings else 2)
    machine = Machine(config, DTYPES[arguments.dtype], packed_tokens(*sets[0])[0])

    seconds = {name: [] for name in [*peers, "floor"]}
    times_floor = {name: [] for name in peers}
    rates = []
    for round in range(arguments.rounds + 1):
        first = round * arguments.queries
        used = [sets[i % len(sets)] for i in range(first, first + arguments.queries)]
        packed, answered = map(sum, zip(*(packed_tokens(*one) for one in used)))
        losses, took = {}, {}
        before = machine.rates()
        for name, peer in peers.items():
            took[name], losses[name] = peer.step(first, arguments.queries)
            after = machine.rates()
            flops, copied = ((a + b) / 2 for a, b in zip(before, after))
            before = after
            # AdamW on exact weights reads weight, remainder, gradient and two moments, and writes all but the gradient.
            floor = (8 * layers * packed + 6 * head * answered) / flops + 28 * parameters / copied
            if round > 0:
                seconds[name].append(took[name] / arguments.queries)
                times_floor[name].append(took[name] / floor)
                seconds["floor"].append(floor / arguments.queries)
                rates.append((flops, copied))
        # The first step also makes the optimizer's state and warms caches; all have the same weights in it.
        spread = max(losses.values()) - min(losses.values())
        assert spread < (2e-3 if arguments.dtype == "f32" else 5e-2), losses

    middle = statistics.median
    flops, copied = (middle(rate) for rate in zip(*rates))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {parameters / 1e6:.0f}M parameters, {arguments.dtype}, "
          f"{arguments.threads} threads, {arguments.queries} queries a step, {arguments.rounds} rounds; medians")
    print(f"products {flops / 1e9:.0f} GFLOP/s, copies {copied / 1e9:.1f} GB/s; floor {middle(seconds['floor']):.2f} s per query")
    for name in peers:
        ratios = [other / own for own, other in zip(seconds["sami"], seconds[name])]
        print(f"{name:8}{middle(seconds[name]):8.2f} s per query, {middle(times_floor[name]):6.2f} × floor, "
              f"{middle(ratios):6.2f} × sami's time ({min(ratios):.2f}–{max(ratios):.2f})")


main()
