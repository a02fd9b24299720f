"""Batched greedy `generate` of transformers: the peer of `sami sample`.

    python benches/reference/generate_reference.py --model DIR --prompts FILE.jsonl [--dtype f32 --threads 2 --batch-size 32
        --max-new-tokens 64 --out FILE.jsonl]

--prompts takes JSON lines with "prompt", or a pairs file (its prompts). Left-padded batches in the order of the file. Prints
one JSON summary; tokens are those up to and with the end of sequence. --out writes {"prompt", "text", "tokens"} lines.
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
from train_reference import DTYPES, matmul_rate, wait  # noqa: E402


def read_prompts(path):
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [prompt for record in records for prompt in record.get("prompts") or [record["prompt"]]]


def left_pad(prompts, device):
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    return ids.to(device), attention.to(device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, help="stop after this many")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--ignore-eos", action="store_true", help="always make --max-new-tokens tokens")
    parser.add_argument("--matmul-rate", action="store_true", help="measure it first, in the same process")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    rate = matmul_rate(DTYPES[arguments.dtype], arguments.device) if arguments.matmul_rate else None
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=DTYPES[arguments.dtype])
    model = model.to(arguments.device).eval()
    texts = read_prompts(arguments.prompts)
    if arguments.batches:
        texts = texts[: arguments.batches * arguments.batch_size]
    encoded = [ref.encode(tokenizer, text) for text in texts]
    eos = tokenizer.eos_token_id
    options = dict(do_sample=False, pad_token_id=eos)
    if arguments.ignore_eos:
        options["min_new_tokens"] = arguments.max_new_tokens

    def generate(prompts, new_tokens):
        ids, attention = left_pad(prompts, arguments.device)
        begin = time.perf_counter()
        out = model.generate(ids, attention_mask=attention, **(options | {"max_new_tokens": new_tokens}))
        wait(arguments.device)
        return out[:, ids.shape[1] :].tolist(), time.perf_counter() - begin

    if arguments.ignore_eos:
        options["min_new_tokens"] = 1
    generate(encoded[: arguments.batch_size], 2)
    _, prefill = generate(encoded[: arguments.batch_size], 1)
    if arguments.ignore_eos:
        options["min_new_tokens"] = arguments.max_new_tokens
    lines, seconds = [], 0.0
    for begin in range(0, len(encoded), arguments.batch_size):
        rows, spent = generate(encoded[begin : begin + arguments.batch_size], arguments.max_new_tokens)
        seconds += spent
        for text, row in zip(texts[begin:], rows):
            if eos in row:
                row = row[: row.index(eos) + 1]
            decoded = tokenizer.decode(row, skip_special_tokens=True)
            lines.append({"prompt": text, "text": decoded, "tokens": row})
    new = sum(len(line["tokens"]) for line in lines)
    summary = {
        "what": "generate",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "parameters": model.num_parameters(),
        "dtype": arguments.dtype,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "batch_size": arguments.batch_size,
        "prompts": len(texts),
        "prompt_tokens": sum(map(len, encoded)),
        "new_tokens": new,
        "seconds": seconds,
        "new_tokens_per_second": new / seconds,
        "prefill_seconds_of_first_batch": prefill,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops": rate,
    }
    if arguments.device.startswith("cuda"):
        summary["peak_cuda_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(summary))
    if arguments.out:
        arguments.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    main()
