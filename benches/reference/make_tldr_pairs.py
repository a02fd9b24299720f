"""Makes contrast sets of the size that TL;DR work has, from the posts and summaries that the paper's authors published.

    python benches/reference/make_tldr_pairs.py --data ../shared/data/tldr/responses-base-mistral.json --model DIR --out FILE
        [--constitutions 2 --queries 32 --prompt-tokens 450 --response-tokens 60 85 --seed 0]

Lengths are counted with the tokenizer of --model: posts are joined and cut until a prompt has about --prompt-tokens, summaries
until a response has between --response-tokens. The sets are for timing; their contrasts mean nothing. With --prompts, writes
the prompts alone, for sampling.
"""

import argparse
import json
import random
from pathlib import Path

from transformers import AutoTokenizer

TEMPLATE = (
    "System: Summarize the post below according to the principles in the constitution.\n\n"
    "Summarization Constitution:\n{constitution}\n\n{post}\n\nSummary:"
)
SHORT, LONG = "Summaries should be concise.", "Summaries should leave out nothing that matters."
LOOSE, TERSE = "Summaries may dwell on details.", "Summaries may pass over what is in the post."
CONSTITUTIONS = [(SHORT, LONG), (TERSE, LOOSE), (SHORT, TERSE), (LOOSE, LONG)]


def cut(tokenizer, texts, tokens):
    """The beginning of the joined texts that has at most this many tokens, ending between words; texts are used up."""
    text = ""
    while len(tokenizer.tokenize(text)) < tokens:
        text = f"{text} {next(texts)}".strip()
    words = text.split(" ")
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if len(tokenizer.tokenize(" ".join(words[:middle]))) <= tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def endless(items, generator):
    while True:
        order = list(items)
        generator.shuffle(order)
        yield from order


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--constitutions", type=int, choices=[2, 3, 4], default=2)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=450)
    parser.add_argument("--response-tokens", type=int, nargs=2, default=[60, 85])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prompts", action="store_true", help='write {"prompt"} lines instead of contrast sets')
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    data = json.loads(arguments.data.read_text())
    posts = endless([post.removeprefix("POST: ") for post in data["question"].values()], generator)
    summaries = endless([text.strip() for text in data["response"].values() if text.strip()], generator)

    lines = []
    for number in range(arguments.queries):
        constitutions = [
            {"id": f"rules-{i}", "text": "".join(f"{k + 1}. {rule}\n" for k, rule in enumerate(rules)).rstrip()}
            for i, rules in enumerate(CONSTITUTIONS[: arguments.constitutions])
        ]
        frame = len(tokenizer.tokenize(TEMPLATE.format(constitution=constitutions[0]["text"], post="POST: ")))
        query = "POST: " + cut(tokenizer, posts, arguments.prompt_tokens - frame)
        prompts = [TEMPLATE.format(constitution=constitution["text"], post=query) for constitution in constitutions]
        if arguments.prompts:
            lines += [{"prompt": prompt} for prompt in prompts]
            continue
        responses = []
        for index in range(arguments.constitutions):
            text = " " + cut(tokenizer, summaries, generator.randint(*arguments.response_tokens))
            responses.append({"constitution": index, "text": text, "token_ids": None, "finish": None})
        lines.append(
            {
                "id": f"tldr-{number}",
                "query": query,
                "constitutions": constitutions,
                "prompts": prompts,
                "responses": responses,
            }
        )
    arguments.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    texts = [line["prompt"] for line in lines] if arguments.prompts else [p for line in lines for p in line["prompts"]]
    lengths = sorted(len(tokenizer(text)["input_ids"]) for text in texts)
    print(f"{len(lines)} lines; prompt tokens {lengths[0]}–{lengths[-1]}, median {lengths[len(lengths) // 2]}")


if __name__ == "__main__":
    main()
