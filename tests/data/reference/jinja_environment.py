"""The environment that transformers gives to chat templates (utils/chat_template_utils.py).

An immutable sandbox, trim_blocks, lstrip_blocks, loop controls, `generation` blocks, tojson =
json.dumps(ensure_ascii=False), raise_exception, strftime_now.
"""
import json
import sys
import time

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = 1700000000  # 2023-11-14 22:13:20 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %}: notes where the text of the block begins and ends."""

    tags = {"generation"}

    def __init__(self, environment):
        super().__init__(environment)
        environment.extend(generation_blocks=None, generation_spans=None)

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("note"), [], [], body).set_lineno(line)

    def note(self, caller):
        text = caller()
        begin = len("".join(self.environment.generation_blocks).encode())
        self.environment.generation_spans.append([begin, begin + len(text.encode())])
        return text


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        return time.strftime(format, time.gmtime(NOW))

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


def render(source, variables):
    """The text and the generation spans, or None for an error of any kind."""
    made = environment()
    made.generation_blocks = []
    made.generation_spans = []
    try:
        for block in made.from_string(source).generate(**variables):
            made.generation_blocks.append(block)
        return "".join(made.generation_blocks), made.generation_spans
    except Exception as error:  # any failure at all is what the test compares
        print(f"{source[:60]!r}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
