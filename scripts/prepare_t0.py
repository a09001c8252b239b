"""Cuts a file of prompts and completions (T0's tasks, one JSON object a line, perhaps gzipped) into text for continued
training, instructions, and instructions that are held out: data/t0/{text,instructions,heldout}.jsonl.

usage: prepare_t0.py t0_per_template.jsonl.gz --output data/t0
"""

import argparse
import gzip
import hashlib
import json
import pathlib

HELD_OUT = 300
END = "<|endoftext|>"  # each completion ends with it; templates set their own


def read_rows(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line.replace(END, "")) for line in file if line.strip()]
    rows = [row for row in rows if row["prompt"].strip() and row["completion"].strip()]
    # The file groups tasks; a hash gives every machine the same mixed order.
    return sorted(rows, key=lambda row: hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest())


def instruction(row):
    return {"prompt": row["prompt"].strip(), "completion": row["completion"].strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    texts = 2 * len(rows) // 3
    passages = {row["prompt"] for row in rows[:-HELD_OUT]}
    parts = {
        "text": [{"text": row["prompt"].rstrip() + "\n" + row["completion"].strip()} for row in rows[:texts]],
        "instructions": [instruction(row) for row in rows[texts:-HELD_OUT]],
        "heldout": [instruction(row) for row in rows[-HELD_OUT:] if row["prompt"] not in passages],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        with open(arguments.output / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for row in part:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
