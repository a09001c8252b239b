#!/usr/bin/env python3
"""Writes jinja_cases.json: what Python's jinja2 makes of small templates and of real chat templates.

    python make_jinja_cases.py TOKENIZERS_DIRECTORY > jinja_cases.json     (made with jinja2 3.1.6, Python 3.11)

The environment is the one that transformers gives to chat templates (utils/chat_template_utils.py): immutable sandbox,
trim_blocks, lstrip_blocks, loop controls, `generation` blocks, tojson = json.dumps(ensure_ascii=False),
raise_exception, strftime_now. The small templates are stored with the text they give, or "error". The real ones (read
below TOKENIZERS_DIRECTORY) and the built-in ones are not stored: only length and 64-bit FNV-1a hash of what they give for the conversations here.
"""
import json
import pathlib
import re
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


VARIABLES = {
    "name": "Ada",
    "empty": "",
    "zero": 0,
    "three": 3,
    "minus": -7,
    "half": 0.5,
    "yes": True,
    "no": False,
    "nothing": None,
    "text": "  The quick brown fox\n\tjumps over  the lazy dog ",
    "lines": "one\ntwo\n\nthree",
    "unicode": "Größe: 3 µm, naïve 日本語 😀",
    "template_like": "{{ name }} {% if %} {# #} }} %}",
    "numbers": [3, 1, 2, 10, -4],
    "words": ["pear", "Apple", "fig", "apple", "Fig"],
    "nested": [[1, 2], [3, [4, 5]], []],
    "user": {"name": "Bo", "age": 41, "items": ["x", "y"], "tags": {"b": 2, "a": 1}},
    "people": [
        {"name": "Cy", "age": 30, "team": {"name": "red"}, "active": True},
        {"name": "di", "age": 25, "team": {"name": "blue"}, "active": False},
        {"name": "Ed", "age": 30, "active": True},
    ],
    "mixed": [1, "a", None, True, 2.5, {"k": [1]}, "it's"],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi {{ name }}"},
        {"role": "assistant", "content": "Hello & <b>welcome</b>"},
    ],
}

# Expressions, each rendered as {{ expression }}.
EXPRESSIONS = """
name
missing
missing.attribute
missing['x']
missing()
missing + 1
missing == other_missing
missing is defined
name is defined
user.name ~ ' is ' ~ user.age
user['name']
user.missing
user.missing.deeper
user['items']
user.tags.items() | list
user.keys() | list
user.values() | list | length
user.tags.items()
user.get('name')
user.get('zip')
user.get('zip', 'none')
'name' in user
'zip' not in user
'quick' in text
3 in numbers
[1, 2] in nested
5 in missing
'x' in nothing
1 in 'a1'
numbers[0]
numbers[-1]
numbers[99]
numbers[99].x
numbers[1:3]
numbers[:2]
numbers[-2:]
numbers[::-1]
numbers[::2]
numbers[3:0:-1]
numbers[10:20]
numbers[-100:2]
numbers[::0]
three[1:]
nothing[1:]
nothing[1:].x
user[1:] is defined
missing[1:]
user[missing] is defined
[missing, missing] | unique | list | length
nothing | map('upper') | list
nothing | selectattr('x') | list
missing | reverse | list
missing | last
name[0]
name[-1]
name[5]
name[::-1]
unicode[7:10]
unicode[-1]
unicode | length
unicode[::-1]
nothing
nothing.x
nothing[0]
nothing | length
yes
no
three + 4
three - 4.5
three * half
7 / 2
6 / 2
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
-7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
1 / 0
1 // 0
1 % 0
'ab' * 3
3 * 'ab'
'ab' * -1
[1, 2] * 2
[1] + [2, 3]
(1, 2) + (3,)
[1] + (2,)
'a' + 1
1 + 'a'
'a' ~ 1 ~ none ~ true ~ 1.0
'a' 'b' "c"
"it's"
'say "hi"'
'tab\\tnew\\nline'
'\\x41\\u00e9\\U0001F600'
'back\\\\slash \\q'
'\\101'
1_000
1.5e3
1e2
0.1 + 0.2
1e16
123456789012345678.0
1e-5
0.0001
100000.0
3.0
-0.0
1 < 2
1 < 2 < 3
1 < 3 < 2
3 > 2 > 1
1 == 1.0
true == 1
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
none < 1
none == none
1 != 2
not yes
not nothing
not not name
yes and name
no and name
no or name
zero or empty or 'last'
yes or 1 / 0
'a' if yes else 'b'
'a' if no else 'b'
'a' if no
('a' if no) is defined
1 if no else 2 if no else 3
[1, 'two', none, true, 2.5]
(1, 2)
(1,)
()
{'a': 1, 'b': [1, 2]}
{1: 'x', none: 'y'}
{'a': {'b': {}}}
{'a': 1}['a']
{'a': 1}.a
{[1]: 2}
mixed
mixed | string
['a\\nb', "it's", 'q"q', "both'\\"", 'é😀', '\\x07\\u200b\\u00a0']
people[0].team.name
people[2].team.name
text | trim
text | trim | length
text.strip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'xyaxy' | trim('xy')
text.split()
text.split(' ')
text.split(none, 2)
text.rsplit(none, 2)
'a,b,c'.split(',')
'a,b,c'.split(',', 1)
'a,b,c'.rsplit(',', 1)
'a,b,c'.split(',', maxsplit=1)
''.split()
''.split(',')
'abc'.split('')
'a</think>b</think>c'.split('</think>')[-1]
lines.splitlines()
lines.splitlines(true)
'a\\r\\nb\\rc\\x0bd\\u2028e'.splitlines()
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
name.upper()
name.lower()
unicode.upper()
'ÀÉÎ' | lower
'ǆ' | length
name.startswith('A')
name.startswith(('x', 'A'))
name.endswith('a')
name.endswith('da', 1)
'hello'.find('l')
'hello'.find('l', 3)
'hello'.find('z')
'hello'.rfind('l')
'hello'.index('z')
'hello'.index('l')
'hello'.count('l')
'hello'.count('')
'naïve naïve'.find('n', 1)
'hello'.replace('l', 'L')
'hello'.replace('l', 'L', 1)
'abc'.replace('', '-')
'héé'.replace('', '-', 3)
'a-b-c' | replace('-', '+')
'a-b-c' | replace('-', '+', 1)
1234 | replace(2, 'x')
', '.join(['a', 'b'])
', '.join(words)
', '.join([1, 2])
'abc'.join('123')
'hello world'.title()
"they're bill's".title()
"they're bill's-x (y)" | title
'hELLO wORLD' | capitalize
'hELLO'.capitalize()
'aBc'.swapcase()
'12'.isdigit()
'1a'.isdigit()
''.isdigit()
'ab'.isalpha()
'a1'.isalnum()
' \\t'.isspace()
'AB1'.isupper()
'ab1'.islower()
'12'.isnumeric()
'7'.zfill(3)
'-7'.zfill(4)
'+7'.zfill(2)
'ab'.center(7, '*')
'abc'.center(8)
'ab'.ljust(4) ~ '|'
'ab'.rjust(4, '.')
'ab' | center(7) ~ '|'
'prefix-x'.removeprefix('prefix-')
'x.txt'.removesuffix('.txt')
'{} and {}'.format('a', 1)
'{1} {0} {x} {{}}'.format('a', 'b', x='c')
'{}'.format()
'%s is %d, %5.2f|%-5s|%05d|%x|%%' | format('a', 3, 2.5, 'b', 42, 255)
'%s' % 'x'
'%s %s' % ('x', 'y')
'%s %s' % 'x'
'%s' % ('x', 'y')
'%(a)s-%(b)03d' | format(a='x', b=7)
'%r' % ('x',)
'%+d % d %e %g' % (3, 4, 12345.678, 0.0001)
'%d' % 2.9
'%d' % 'x'
'abc'.nope
'abc'.nope()
'abc'['upper']()
[1, 2].append(3)
user.update({'a': 1})
user.pop('name')
[1, 2, 1].count(1)
[1, 2, 1].index(2)
[1].index(5)
name.__class__
name.__class__.__mro__
user.__class__
''.join.x
user | tojson
user | tojson(indent=2)
user | tojson(indent=4)
user | tojson(indent=0)
user | tojson(sort_keys=true)
user | tojson(separators=(',', ':'))
user | tojson(separators=[',', ':'], indent='--')
unicode | tojson
unicode | tojson(ensure_ascii=true)
'<a href="x">&\\'/\\\\\\x7f\\x00\\n' | tojson
'\\x7f\\u00ff' | tojson(true)
mixed | tojson
[] | tojson(indent=2)
{} | tojson
{'a': []} | tojson(indent=2)
(1, 2) | tojson
{1: 2, true: 3, none: 4, 1.5: 5} | tojson
1e100 | tojson
1.0 | tojson
missing | tojson
user.items() | tojson
people | map(attribute='name') | tojson
people | map(attribute='name') | list | tojson
words | length
words | count
user | length
missing | length
three | length
words | first
words | last
[] | first
[] | last
[] | first is defined
name | first
name | last
user | first
words | join(', ')
words | join
numbers | join('-')
mixed | join('|')
people | join(', ', attribute='name')
'abc' | join('.')
missing | join(',')
missing | default('d')
missing | d
nothing | default('d')
nothing | default('d', true)
empty | default('d', boolean=true)
zero | d('z', true)
missing.x | default('d')
user.missing | default('d')
words | sort
words | sort(reverse=true)
words | sort(case_sensitive=true)
numbers | sort
numbers | sort(reverse=true)
people | sort(attribute='age') | map(attribute='name') | join(',')
people | sort(attribute='age,name') | map(attribute='name') | join(',')
people | sort(attribute='age', reverse=true) | map(attribute='name') | join(',')
mixed | sort
words | unique | list
words | unique(case_sensitive=true) | list
people | unique(attribute='age') | map(attribute='name') | list
nested | unique | list
user.tags | dictsort
user.tags | dictsort(by='value')
user.tags | dictsort(reverse=true)
user.tags | items | list
missing | items | list
words | reverse | list
words | reverse | join(' ')
'abc' | reverse
'abc' | list
user.tags | list
three | list
missing | list
numbers | min
numbers | max
[] | min
people | max(attribute='age')
words | min
numbers | sum
people | sum(attribute='age')
numbers | sum(start=100)
words | sum
nested | sum(start=[])
-3 | abs
minus | abs
(-2.5) | abs
'a' | abs
'42' | int
'42.9' | int
'abc' | int
'abc' | int(default=7)
'0x1A' | int(base=16)
'1A' | int(0, 16)
'101' | int(base=2)
' 1_000 ' | int
'1__0' | int(5)
3.99 | int
-3.99 | int
nothing | int
true | int
'1.5' | float
'1e3' | float
'x' | float
'x' | float(default=2)
'inf' | float
three | float
2.5 | round
3.5 | round
-2.5 | round
2.675 | round(2)
42.55 | round(1)
42.55 | round(1, 'floor')
42.55 | round(1, 'ceil')
42 | round
42 | round(0, 'floor')
1e300 | round(2)
'the quick  brown' | wordcount
lines | indent
lines | indent(2)
lines | indent(2, true)
lines | indent(2, true, true)
lines | indent('> ', blank=true)
'one' | indent
'' | indent(2, true)
'a long text that goes on' | truncate(12)
'a long text that goes on' | truncate(12, true)
'a long text that goes on' | truncate(12, false, '…', 0)
'short' | truncate(5)
'<a & "b">' | e
'<a>' | escape ~ '<b>'
('<a>' | escape) + '<b>'
'<a>' | safe
'<a>' | e | e
'<a>' | e | forceescape
'<a>' | e | length
'<a>' | safe | tojson
numbers | batch(2) | list
numbers | batch(2, 0) | list
numbers | slice(2) | list
numbers | slice(3, 'x') | list
words | map('upper') | list
words | map('replace', 'p', 'P') | list
people | map(attribute='team.name') | list
people | map(attribute='team.name', default='-') | list
people | map(attribute='team') | map(attribute='name') | list
nested | map('first') | list
nested | map(attribute=0) | list
nested | map(attribute='1') | list
people | selectattr('active') | map(attribute='name') | list
people | rejectattr('active') | map(attribute='name') | list
people | selectattr('age', 'equalto', 30) | list | length
people | selectattr('age', '>', 25) | map(attribute='name') | list
people | selectattr('team', 'defined') | list | length
people | selectattr('team.name', 'eq', 'red') | list | length
messages | selectattr('role', 'in', ['user', 'system']) | list | length
numbers | select('odd') | list
numbers | reject('odd') | list
numbers | select('gt', 2) | list
numbers | select | list
mixed | select('string') | list
mixed | select('none') | list
numbers | select('divisibleby', 3) | list
numbers | map('nope') | list
numbers | select('nope') | list
words | map | list
name is string
three is string
three is number
three is integer
half is float
half is integer
true is integer
true is number
true is boolean
nothing is none
missing is none
user is mapping
words is mapping
words is sequence
name is sequence
user is sequence
missing is sequence
three is sequence
user.items() is sequence
words is iterable
name is iterable
three is iterable
missing is iterable
nothing is iterable
yes is true
three is true
no is false
zero is false
three is odd
three is even
minus is odd
10 is divisibleby 5
2.0 is even
2.5 is odd
10 is divisibleby(4)
three is eq 3
three is equalto(3)
three is ne 4
three is gt 2
three is lessthan 3
three is in [1, 2, 3]
three is not in [1, 2, 3]
'abc' is lower
'ABC' is upper
'Abc' is lower
nothing is sameas none
1 is sameas true
name is callable
range is callable
raise_exception is defined
('<a>' | e) is escaped
name is not string
name is not none and three is not none
not name is string
range(5) | list
range(2, 8, 3) | list
range(5, 0, -2) | list
range(3)
range(0)
range(5)[1]
range(5)[-1]
range(5) | length
range(1, 2, 0)
range(1000000) | length
range(0) | list
dict(a=1, b='x')
dict([('a', 1), ('b', 2)])
dict({'a': 1}, b=2)
namespace(a=1).a
namespace(a=1).b
namespace(a=1)['a']
namespace(a=1).b is defined
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y')
raise_exception('stop')
name | nope
name is nope
-three | abs
- three + 5
2 + 3 * 4 ~ 'x'
(2 + 3) * 4
1 ~ 2 + 3
10 - 2 - 3
2 * 3 % 4
[1, 2, 3] | length + 1
user.name | upper | lower
'A' if three > 2 and (no or name) else 'B'
three if three else missing.x
{'a': 1}.items() | list
'%s' | format(name)
name,three
name, three,
numbers.0
nested.1.1.0
user.tags.b + user.tags.a
(name)
((1, 2), 3)
[[]]
'é' == 'é'
'a' in ['A' | lower]
none is none
None is none
True and False
'}}' ~ '%}'
{'a': {'b': 1}}
{'a': {'b': 1}}.a.b
messages[-1]['role'] != 'assistant'
messages[0].content | length > 5
(messages | last).role
messages[1:] | map(attribute='role') | join(' ')
messages | map(attribute='content') | map('length') | sum
template_like
'x' is defined is true
1 2
1 +
(1
'open
user..name
5 | string + '5'
'a' 'b' ~ 'c' 'd'
three == 3 == true
loop
caller()
9223372036854775807
9007199254740993 * 1.0
5.__class__
'ab'[0]
'ab'['x'] is defined
user[nothing] is defined
user[['a']] is defined
[1,2,3,]
{'a': 1,}
dict(a=1,)
name|upper|lower|title
'x'|default
true|string|lower
none|string
1.0|string
[1, [2, (3, 4)], {'a': none}]|string
"\\\\d+\\n"
words[0] | upper ~ words[1]|lower
(words | sort)[0]
words | sort | first
words | list == words
numbers | map('string') | join
numbers | map('default', 1) | list
(numbers | map('string')) is sequence
numbers | select('odd') | first
numbers | select('odd') | length
numbers | reverse | first
numbers | reverse | length
1 is number and 'a' is string
yes is boolean
'abc' | upper is upper
not (yes and no)
not yes and no
not yes or yes
no is false or 1/0
-1 ** 2
2 ** 3 ** 2
2 ** -1 * 4
+three
-(-three)
--three
'a' < 'B'
'Z' < 'a' < 'é'
[3, 'a'] < [3, 'b']
[3, 'a'] < [4, 1]
{'a': 1} == {'a': 1.0}
{'a': 1} < {'b': 1}
(1, 2) == [1, 2]
'1' == 1
""".strip("\n").split("\n")

TEMPLATES = {
    "plain text": "Just text.\n",
    "two last newlines": "a\n\n",
    "carriage returns": "a\r\nb\rc\r\n",
    "crlf in a block": "{% if yes %}\r\n  x\r\n{% endif %}\r\nend",
    "trim after block": "{% if yes %}\nyes\n{% endif %}\nend\n",
    "lstrip before block": "a\n   {% if yes %}\n   b\n   {% endif %}\n   c",
    "lstrip not after text": "a   {% if yes %}b{% endif %}",
    "lstrip at start": "   {% if yes %}b{% endif %}",
    "lstrip with tabs": "a\n \t {% if yes %}b{% endif %}",
    "lstrip not for variables": "a\n   {{ name }}",
    "no trim after variable": "{{ name }}\nx",
    "lstrip comment": "a\n   {# c #}\n   b",
    "comment keeps inline": "a {# c #} b",
    "comment strip left": "a \n {#- c #} b",
    "comment strip right": "a {# c -#} \n b",
    "comment strip both": "a {#- c -#} b",
    "comment with tags": "{# {{ x }} {% y %} #}z",
    "comment minus only": "{#-#}z",
    "open comment": "a {# b",
    "strip left block": "a \n\n {%- if yes %}b{% endif %}",
    "strip right block": "{% if yes -%} \n\n b{% endif %}",
    "strip variable": "a \n {{- name -}} \n b",
    "plus keeps newline": "{% if yes +%}\nb{% endif %}",
    "plus keeps indent": "a\n   {%+ if yes %}b{% endif %}",
    "plus variable": "a {{+ name }}",
    "plus comment": "a\n  {#+ c +#}\nb",
    "strip unicode space": "a\u00a0\u2003{{- name -}}\u3000b",
    "block directly after block": "{% if yes %}\n  {% if yes %}\n x\n  {% endif %}\n{% endif %}\n",
    "two blocks on a line": "  {% if yes %}{% endif %}  {% if yes %}x{% endif %}\n",
    "raw": "{% raw %}{{ name }} {% if %}{% endraw %}!",
    "raw trims": "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "raw strips": "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "raw open": "{% raw %} x",
    "raw twice": "{% raw %}{%{% endraw %}{% raw %}%}{% endraw %}",
    "braces in text": "{ { } } {x} { %",
    "dict in braces": "{{ {'a': {'b': 'c'}} }}",
    "unclosed variable": "a {{ name",
    "unclosed block": "a {% if yes",
    "unclosed if": "{% if yes %}a",
    "unclosed for": "{% for x in words %}a",
    "extra end": "a{% endif %}",
    "wrong end": "{% if yes %}{% endfor %}",
    "unknown tag": "{% frobnicate %}",
    "do is not there": "{% do words %}",
    "if chain": "{% if no %}a{% elif zero %}b{% elif three %}c{% else %}d{% endif %}",
    "if else": "{% if no %}a{% else %}d{% endif %}",
    "if none of them": "[{% if no %}a{% elif no %}b{% endif %}]",
    "if undefined": "[{% if missing %}a{% endif %}]",
    "if tuple": "{% if no, no %}a{% endif %}",
    "for": "{% for x in words %}{{ x }};{% endfor %}",
    "for else": "{% for x in [] %}{{ x }}{% else %}none{% endfor %}",
    "for else not": "{% for x in [1] %}{{ x }}{% else %}none{% endfor %}",
    "for undefined": "[{% for x in missing %}{{ x }}{% else %}none{% endfor %}]",
    "for none": "{% for x in nothing %}{{ x }}{% endfor %}",
    "for number": "{% for x in three %}{{ x }}{% endfor %}",
    "for string": "{% for x in 'añ😀' %}{{ x }},{% endfor %}",
    "for dict": "{% for k in user %}{{ k }} {% endfor %}",
    "for items": "{% for k, v in user.tags.items() %}{{ k }}={{ v }} {% endfor %}",
    "for items filter": "{% for k, v in user.tags | items %}{{ k }}={{ v }} {% endfor %}",
    "for dictsort": "{% for k, v in user.tags | dictsort %}{{ k }}={{ v }} {% endfor %}",
    "for unpack nested": "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "for unpack wrong": "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "for unpack string": "{% for a, b in ['xy'] %}{{ a }}-{{ b }}{% endfor %}",
    "for condition": "{% for x in numbers if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}",
    "for condition else": "{% for x in numbers if x > 100 %}{{ x }}{% else %}none{% endfor %}",
    "for condition lazy": "{% set ns = namespace(stop=false) %}{% for x in numbers if not ns.stop %}{{ x }}"
    "{% if x == 1 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "for condition last": "{% for x in numbers if x > 1 %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "for tuple": "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "for inline if needs parentheses": "{% for x in (words if no else numbers) %}{{ x }}{% endfor %}",
    "loop variables": "{% for x in words %}{{ loop.index }},{{ loop.index0 }},{{ loop.revindex }},{{ loop.revindex0 }},"
    "{{ loop.first }},{{ loop.last }},{{ loop.length }},{{ loop.previtem }},{{ loop.nextitem }},{{ loop.depth }},"
    "{{ loop.cycle('a', 'b') }}\n{% endfor %}",
    "loop previtem is defined": "{% for x in words %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "loop outside": "{{ loop.index }}",
    "nested loops": "{% for a in nested %}{% for b in a %}{{ loop.index }}{% endfor %}|{{ loop.index }} {% endfor %}",
    "outer loop kept": "{% for a in [1, 2] %}{% set outer = loop %}{% for b in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "break": "{% for x in numbers %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "continue": "{% for x in numbers %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "break outside": "{% break %}",
    "continue in if in for": "{% for x in numbers %}{% if x > 1 %}{% if x > 2 %}{% continue %}{% endif %}{% endif %}{{ x }}{% endfor %}",
    "else after continue": "{% for x in [1] %}{% continue %}{% else %}E{% endfor %}",
    "else after break": "{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}",
    "else after first break": "{% for x in [1, 2] %}{% break %}{% else %}E{% endfor %}",
    "set": "{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}",
    "set tuple": "{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "set tuple value": "{% set a = 1, 2 %}{{ a }}",
    "set tuple wrong": "{% set a, b = [1] %}{{ b }}{{ a }}",
    "set in if leaks": "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}",
    "set in for does not leak": "{% set x = 0 %}{% for i in numbers %}{% set x = i %}{{ x }}{% endfor %}|{{ x }}",
    "set in for starts anew": "{% set x = 'o' %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }} {% endfor %}",
    "set in else of for": "{% for i in [] %}{% else %}{% set x = 1 %}{% endfor %}[{{ x }}]",
    "loop variable does not leak": "{% for i in numbers %}{% endfor %}[{{ i }}]",
    "set keyword": "{% set true = 1 %}",
    "set attribute of dict": "{% set user.name = 'x' %}",
    "set attribute of missing": "{% set zzz.name = 'x' %}",
    "set shadows variable": "{% set name = 'x' %}{{ name }}",
    "set messages slice": "{% set messages = messages[1:] %}{{ messages | length }}{{ messages[0].role }}",
    "block set": "{% set x %}\n  Hello {{ name }}\n{% endset %}[{{ x }}]",
    "block set filter": "{% set x | upper | trim %}  hello {{ name }} {% endset %}[{{ x }}]",
    "block set filter arguments": "{% set x | replace('l', 'L') %}hello{% endset %}[{{ x }}]",
    "block set scope": "{% set y = 1 %}{% set x %}{% set y = 2 %}{{ y }}{% endset %}{{ x }}{{ y }}",
    "namespace": "{% set ns = namespace(n=0, seen=[]) %}{% for x in numbers %}{% set ns.n = ns.n + x %}"
    "{% set ns.seen = ns.seen + [x] %}{% endfor %}{{ ns.n }} {{ ns.seen }}",
    "namespace new attribute": "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "namespace from dict": "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}",
    "namespace tuple": "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}",
    "namespace block set": "{% set ns = namespace() %}{% set ns.a %}x{{ name }}{% endset %}{{ ns.a }}",
    "macro": "{% macro hi(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ hi('x') }}{{ hi('x', c='z') }}{{ hi(b=1, a=2) }}",
    "macro missing argument": "{% macro hi(a) %}[{{ a }}{{ a is defined }}]{% endmacro %}{{ hi() }}",
    "macro too many": "{% macro hi(a) %}[{{ a }}]{% endmacro %}{{ hi(1, 2) }}",
    "macro unknown argument": "{% macro hi(a) %}[{{ a }}]{% endmacro %}{{ hi(z=2) }}",
    "macro varargs": "{% macro hi(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ hi(1, 2, 3, k=4) }}",
    "macro recursion": "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "macro sees globals": "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}",
    "macro does not see caller's names": "{% macro f() %}[{{ i }}]{% endmacro %}{% for i in [1, 2] %}{{ f() }}{% endfor %}",
    "macro set stays inside": "{% macro f() %}{% set x = 1 %}{{ x }}{% endmacro %}{{ f() }}[{{ x }}]",
    "macro namespace": "{% set ns = namespace(n=0) %}{% macro f() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ f() }}{{ f() }}{{ ns.n }}",
    "macro in loop": "{% for i in [1, 2] %}{% macro f(x) %}{{ i }}{{ x }}{% endmacro %}{{ f('a') }}{% endfor %}",
    "macro result is text": "{% macro f() %} 12 {% endmacro %}{{ f() | trim | int + 1 }}{{ f() is string }}",
    "macro trims": "{% macro f() %}\n  x\n{% endmacro %}\n[{{ f() }}]",
    "macro attribute": "{% macro f() %}{% endmacro %}{{ f is defined }}{{ f is callable }}",
    "call block": "{% macro box(title) %}<{{ title }}>{{ caller() }}</>{% endmacro %}{% call box('T') %}body {{ name }}{% endcall %}",
    "call block arguments": "{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}"
    "{% call(x, i) each(words) %}{{ i }}{{ x }} {% endcall %}",
    "macro without caller": "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "call of a macro that ignores it": "{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}",
    "filter block": "{% filter upper %}hello {{ name }}{% endfilter %}",
    "filter block chain": "{% filter trim | replace('l', 'L') %}  hello {% endfilter %}",
    "with": "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}[{{ a }}]",
    "with nothing": "{% with %}{% set a = 1 %}{{ a }}{% endwith %}[{{ a }}]",
    "with sees outer": "{% set a = 1 %}{% with b = a %}{{ b }}{% endwith %}",
    "generation": "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<end>{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
    "generation twice": "é{% generation %}1{{ unicode }}{% endgeneration %}x{%- generation -%} y {%- endgeneration -%} z",
    "generation scope": "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}[{{ x }}]",
    "generation trims": "a\n  {% generation %}\n  b\n  {% endgeneration %}\nc",
    "generation empty": "a{% generation %}{% endgeneration %}b",
    "generation in loop": "{% for x in words %}{% generation %}{{ loop.index }}{{ x }}{% endgeneration %},{% endfor %}",
    "undefined in text": "[{{ missing }}]",
    "undefined attribute of undefined": "{{ missing.a }}",
    "for over undefined attribute": "{% for x in user.zip %}x{% endfor %}|",
    "colon after block": "{% if yes: %}a{% endif %}{% for x in [1]: %}{{ x }}{% endfor %}",
    "content stays verbatim": "{{ template_like }}|{{ messages[1].content }}",
    "no escaping": "{{ messages[2].content }}",
    "iterator once": "{% set it = numbers | select('odd') %}{% for x in it %}{{ x }}{% endfor %}|{% for x in it %}{{ x }}{% endfor %}",
    "iterator is true": "{% set it = [] | select %}{% if it %}yes{% endif %}",
    "iterator in": "{% set it = [1, 2, 3] | select %}{{ 2 in it }}{{ it | list }}",
    "items key of dict": "{% for i in user['items'] %}{{ i }}{% endfor %}",
    "multi line expression": "{{\n  name\n  | upper\n}}",
    "multi line set": "{%- set x = [\n  1,\n  2,\n] -%}{{ x }}",
    "chat": "{%- for message in messages %}\n{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n",
    "chat exception": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
    "string with newline": "{{ 'a\nb' }}",
    "string with line continuation": "{{ 'a\\\nb' }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "deep text": "{{ '(' * 50 ~ ')' * 50 }}",
    "operators without spaces": "{{1+2*3-4//2}}{{three>2}}{{'a'~'b'}}",
    "minus before end": "{{ 1 -}}  x",
    "minus in block end": "{% set x = 3 -%}  {{ x - 1 }}",
    "tag in string": "{{ '{{ x }} {% y %}' }}",
    "string with closing": "{{ '}}' }}{% if '%}' == '%}' %}a{% endif %}",
    "caller name outside": "{{ caller }}|{{ varargs }}|{{ kwargs }}",
    "nested conditions in set": "{%- set x = 'a' if no else ('b' if yes else 'c') -%}{{ x }}",
    "loop over range": "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(messages | length) %}{{ messages[i].role }} {% endfor %}",
    "reverse slice loop": "{% for m in messages[::-1] %}{{ (messages | length - 1) - loop.index0 }}{{ m.role }} {% endfor %}",
    "recursive data": "{% macro show(x) %}{% if x is mapping %}{ {% for k, v in x.items() %}{{ k }}:{{ show(v) }} {% endfor %}}"
    "{% elif x is iterable and x is not string %}[{% for v in x %}{{ show(v) }} {% endfor %}]{% else %}{{ x }}{% endif %}"
    "{% endmacro %}{{ show(user) }}{{ show(nested) }}",
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Current weather at a place — with \"quotes\" & <tags>",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "a town"}, "days": {"type": "integer"}},
                "required": ["place"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {}}},
]


def call(name, arguments, number="1"):
    return {"id": "call_" + number, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "one question": {"messages": [{"role": "user", "content": "Wie groß ist π?"}]},
    "with system": {
        "messages": [
            {"role": "system", "content": "  Answer in one word. "},
            {"role": "user", "content": "Capital of Peru?"},
            {"role": "assistant", "content": "Lima"},
        ]
    },
    "several turns": {
        "messages": [
            {"role": "user", "content": "1 + 1?\n"},
            {"role": "assistant", "content": " 2 "},
            {"role": "user", "content": "{{ 2 }} + {% 2 %}?"},
            {"role": "assistant", "content": "4 😀"},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": ""},
        ]
    },
    "thinking in the content": {
        "messages": [
            {"role": "user", "content": "Is 7 prime?"},
            {"role": "assistant", "content": "<think>\nOnly 1 and 7 divide it.\n</think>\n\nYes."},
            {"role": "user", "content": "And 9?"},
            {"role": "assistant", "content": "<think>\n3 * 3\n</think>\n\nNo."},
        ]
    },
    "reasoning": {
        "messages": [
            {"role": "user", "content": "Is 7 prime?"},
            {"role": "assistant", "reasoning_content": "Only 1 and 7 divide it.", "content": "Yes."},
            {"role": "user", "content": "And 9?"},
            {"role": "assistant", "reasoning_content": "3 * 3\n", "content": "No."},
        ]
    },
    "tools offered": {
        "messages": [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "Weather in Oslo?"}],
        "tools": TOOLS,
    },
    "tool calls": {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": "", "tool_calls": [call("weather", {"place": "Oslo", "days": 2})]},
            {"role": "tool", "tool_call_id": "call_1", "content": "{\"t\": -3.5}"},
            {"role": "assistant", "content": "It is -3.5 °C."},
        ],
        "tools": TOOLS,
    },
    "tool calls with text arguments": {
        "messages": [
            {"role": "user", "content": "Weather in Oslo and the time?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [call("weather", "{\"place\": \"Oslo\"}"), call("now", "{}", "2")],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "cold"},
            {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
            {"role": "assistant", "content": "Cold, and it is noon."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": TOOLS,
    },
    "assistant first": {"messages": [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Hi"}]},
    "two systems": {
        "messages": [
            {"role": "system", "content": "A"},
            {"role": "system", "content": "B"},
            {"role": "user", "content": "x"},
        ]
    },
}

EXTRAS = {
    "": {},
    "thinking off": {"enable_thinking": False},
    "open thinking": {"open_thinking": True},
    "custom tools": {"custom_tools": TOOLS, "builtin_tools": ["code_interpreter", "weather"], "tools_in_user_message": False},
}


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
    yield from TEMPLATES.items()


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
