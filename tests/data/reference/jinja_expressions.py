"""Small expressions of Jinja, and the variables that they and the statements (jinja_statements.py) are given."""

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
