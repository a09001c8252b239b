#!/usr/bin/env python3
"""Writes jinja_cases.json: what Python's jinja2 makes of small templates and of real chat templates.

    python make_jinja_cases.py TOKENIZERS_DIRECTORY > jinja_cases.json     (made with jinja2 3.1.6, Python 3.11)

The small templates are stored with the text they give, or "error". The real ones (read below TOKENIZERS_DIRECTORY) and
the built-in ones are not stored: only length and 64-bit FNV-1a hash of what they give for the conversations of
jinja_conversations.py.
"""
import json
import pathlib
import re
import sys

import jinja2
from jinja_conversations import CONVERSATIONS, EXTRAS
from jinja_environment import NOW, render
from jinja_expressions import EXPRESSIONS, VARIABLES
from jinja_statements import STATEMENTS

# The built-in templates: their constants, and the files below src/data that hold them.
BUILT_IN = {
    "kChatMl": "protocol_strings.h",
    "kLlama3": "protocol_strings.h",
    "kPlain": "built_in_templates.cpp",
}


def fnv1a(data):
    number = 0xCBF29CE484222325
    for byte in data:
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return f"{number:016x}"


def real_cases(directory):
    templates = {}
    for path in sorted(directory.glob("llama.cpp/templates/*.jinja")):
        templates[str(path.relative_to(directory))] = path.read_text()
    for name in ("qwen3", "deepseek_v3", "minimind"):
        config = json.loads((directory / name / "tokenizer_config.json").read_text())
        templates[f"{name}/tokenizer_config.json"] = config["chat_template"]
    sources = pathlib.Path(__file__).parents[3] / "src/data"
    for name, file in BUILT_IN.items():
        constant = re.search(rf'\b{name} = R"\((.*?)\)"', (sources / file).read_text(), re.S)
        templates["built-in " + name.removeprefix("k").lower()] = constant[1]
    for path, source in templates.items():
        for conversation, content in CONVERSATIONS.items():
            for extra, variables in EXTRAS.items():
                if variables and not any(variable in source for variable in variables):
                    continue
                for prompt in (False, True):
                    given = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
                    given |= content | variables | {"add_generation_prompt": prompt}
                    result = render(source, given)
                    case = {"template": path, "conversation": conversation, "extra": extra, "prompt": prompt}
                    if result is None:
                        yield case | {"error": True}
                    else:
                        text = result[0].encode()
                        yield case | {"bytes": len(text), "hash": fnv1a(text)}


def small_cases():
    for expression in EXPRESSIONS:
        yield expression, "{{ " + expression + " }}"
    yield from STATEMENTS.items()


def main():
    cases = []
    for name, source in small_cases():
        result = render(source, VARIABLES)
        case = {"name": name, "template": source}
        if result is None:
            case["error"] = True
        else:
            case["text"] = result[0]
            if result[1]:
                case["generation"] = result[1]
        cases.append(case)
    out = {
        "jinja2": jinja2.__version__,
        "now": NOW,
        "variables": VARIABLES,
        "cases": cases,
        "conversations": CONVERSATIONS,
        "extras": EXTRAS,
        "real": list(real_cases(pathlib.Path(sys.argv[1]))),
    }
    lines = []
    for key, value in out.items():
        if isinstance(value, list):
            items = ",\n".join("    " + json.dumps(item, ensure_ascii=False) for item in value)
            lines.append(f"  {json.dumps(key)}: [\n{items}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
