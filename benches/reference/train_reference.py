"""The paper's training step in PyTorch + transformers: the peer of `sami train`.

    python benches/reference/train_reference.py --model DIR --pairs FILE [--dtype bf16 --threads 2 --batch-size 2 --steps 5]

For each query all C*R prompt+response sequences, padded, through the whole model; full logits (in f32, as transformers gave
them when the paper's code was written; --logits model keeps the model's dtype); means over response tokens; two-sided loss;
backward; AdamW on weights of that dtype. Steps cycle through the pairs in order. Prints JSON: one line a step, then a summary.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))
import sami_reference as ref  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def matmul_rate(dtype, device, size=2048, seconds=1.0):
    """FLOP/s of square matrix products: what the machine can do in this dtype, with these threads."""
    a, b = torch.randn(2, size, size, dtype=dtype, device=device).unbind()
    a @ b
    wait(device)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        a @ b
        wait(device)
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - begin)


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def query_loss(model, sequences, shape, keep_dtype):
    ids, attention, counted = ref.pad(sequences, model.device)
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]
    logps = (logits if keep_dtype else logits.float()).log_softmax(-1)
    logps = logps.gather(-1, ids[:, 1:, None])[..., 0] * counted[:, 1:]
    return ref.two_sided_loss((logps.sum(-1) / counted[:, 1:].sum(-1)).view(shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int, default=2, help="queries a step")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--lr", type=float, default=5e-7)
    parser.add_argument("--optimizer", choices=["adamw", "rmsprop"], default="adamw")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--logits", choices=["f32", "model"], default="f32")
    parser.add_argument("--matmul-rate", action="store_true", help="measure it first, in the same process")
    parser.add_argument("--out", type=Path, help="write the trained checkpoint there")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    rate = matmul_rate(DTYPES[arguments.dtype], arguments.device) if arguments.matmul_rate else None
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=DTYPES[arguments.dtype], attn_implementation=arguments.attention
    ).to(arguments.device)
    kind = {"adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[arguments.optimizer]
    optimizer = kind(model.parameters(), lr=arguments.lr)
    sets = [
        (ref.encode_set(tokenizer, record), (len(record["prompts"]), len(record["responses"])))
        for record in ref.read_pairs(arguments.pairs)
    ]
    seconds = []
    for step in range(arguments.steps):
        begin, losses, real, padded = time.perf_counter(), [], 0, 0
        for i in range(arguments.batch_size):
            sequences, shape = sets[(step * arguments.batch_size + i) % len(sets)]
            loss = query_loss(model, sequences, shape, arguments.logits == "model")
            (loss / arguments.batch_size).backward()
            losses.append(loss.item())
            real += sum(len(ids) for ids, _ in sequences)
            padded += len(sequences) * max(len(ids) for ids, _ in sequences)
        optimizer.step()
        optimizer.zero_grad()
        wait(arguments.device)
        seconds.append(time.perf_counter() - begin)
        line = {"step": step + 1, "loss": sum(losses) / len(losses), "seconds": seconds[-1]}
        print(json.dumps(line | {"tokens": real, "padded_tokens": padded}), flush=True)
    # The first step also makes the optimizer's state and warms caches.
    timed = sorted(seconds[1:] or seconds)
    summary = {
        "what": "train",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": model.num_parameters(),
        "dtype": arguments.dtype,
        "logits": arguments.logits,
        "attention": arguments.attention,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "batch_size": arguments.batch_size,
        "responses_per_query": sets[0][1][1],
        "seconds_per_query_median": timed[len(timed) // 2] / arguments.batch_size,
        "seconds_per_query_least": timed[0] / arguments.batch_size,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops": rate,
    }
    if arguments.device.startswith("cuda"):
        summary["peak_cuda_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(summary))
    if arguments.out:
        model.save_pretrained(arguments.out)
        tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
