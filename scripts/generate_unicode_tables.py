#!/usr/bin/env python3
"""Writes the Unicode tables of src/tokenizer/ from Python's unicodedata.

Usage: python3 scripts/generate_unicode_tables.py        (from anywhere; no arguments)

Two files, so that neither is long: unicode_canonical.inc (combining classes, canonical decompositions, lower case,
nonspacing marks) and unicode_compatibility.inc (NFKC and NFKD). Hangul syllables are computed, not tabulated.
"""

import pathlib
import unicodedata

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "src" / "tokenizer"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
COLUMNS = 120


def is_hangul_syllable(code_point):
    return 0xAC00 <= code_point <= 0xD7A3


def canonical_decompositions():
    """(code point, first, second or 0): one level of the canonical mapping."""
    rows = []
    for code_point in CODE_POINTS:
        mapping = unicodedata.decomposition(chr(code_point))
        if mapping and not mapping.startswith("<") and not is_hangul_syllable(code_point):
            parts = [int(part, 16) for part in mapping.split()]
            rows.append((code_point, parts[0], parts[1] if len(parts) > 1 else 0))
    return rows


def composition_exclusions(canonical):
    """Code points that have a pair as mapping but that NFC never produces."""
    return [(c,) for c, _, second in canonical if second and unicodedata.normalize("NFC", chr(c)) != chr(c)]


def runs(pairs):
    """(first, last, value) of consecutive code points with the same value."""
    rows = []
    for code_point, value in pairs:
        if rows and rows[-1][1] == code_point - 1 and rows[-1][2] == value:
            rows[-1] = (rows[-1][0], code_point, value)
        else:
            rows.append((code_point, code_point, value))
    return rows


def combining_classes():
    return runs((c, unicodedata.combining(chr(c))) for c in CODE_POINTS if unicodedata.combining(chr(c)))


def nonspacing_marks():
    return [row[:2] for row in runs((c, 0) for c in CODE_POINTS if unicodedata.category(chr(c)) == "Mn")]


def lower_case():
    """(first, last, step, difference): every step-th code point from first to last has a lower case form."""
    rows = []
    for code_point in CODE_POINTS:
        lower = chr(code_point).lower()
        if len(lower) != 1 or ord(lower) == code_point:
            continue  # U+0130, the only longer form, is in the code
        difference = ord(lower) - code_point
        if rows and rows[-1][3] == difference:
            first, last, step, _ = rows[-1]
            gap = code_point - last
            if gap in (1, 2) and (first == last or gap == step):
                rows[-1] = (first, code_point, gap, difference)
                continue
        rows.append((code_point, code_point, 1, difference))
    return rows


def compatibility_decompositions():
    """Runs (first, last, target) that map to consecutive single code points, and the others as (code point, length)
    with their targets one after the other in a pool. The mappings are full ones (NFKD of the code point)."""
    single, several, pool = [], [], []
    for code_point in CODE_POINTS:
        if not unicodedata.decomposition(chr(code_point)).startswith("<"):
            continue
        mapping = [ord(c) for c in unicodedata.normalize("NFKD", chr(code_point))]
        if len(mapping) > 1:
            several.append((code_point, len(mapping)))
            pool.extend(mapping)
        elif single and single[-1][1] + 1 == code_point and single[-1][2] + code_point - single[-1][0] == mapping[0]:
            single[-1] = (single[-1][0], code_point, single[-1][2])
        else:
            single.append((code_point, code_point, mapping[0]))
    return single, several, [(c,) for c in pool]


def array(comment, declaration, rows):
    lines = [f"// {comment}", f"constexpr {declaration} = {{"]
    line = "    "
    for row in rows:
        item = f"{{{','.join(map(str, row))}}}," if len(row) > 1 else f"{row[0]},"
        if len(line) + len(item) > COLUMNS:
            lines.append(line)
            line = "    "
        line += item
    return "\n".join(lines + [line, "};", ""])


def write(name, parts):
    header = (f"// Unicode {unicodedata.unidata_version}, written by scripts/generate_unicode_tables.py. Do not edit.\n"
              "// clang-format off\n")
    (OUTPUT / name).write_text(header + "\n" + "\n".join(parts))


def main():
    canonical = canonical_decompositions()
    single, several, pool = compatibility_decompositions()
    write("unicode_canonical.inc", [
        array("Canonical combining classes other than 0.", "CombiningClassRun kCombiningClasses[]", combining_classes()),
        array("Canonical mappings, one level; second is 0 for a single code point.",
              "CanonicalMapping kCanonicalMappings[]", canonical),
        array("Code points with a pair as mapping that are never composed.", "char32_t kCompositionExclusions[]",
              composition_exclusions(canonical)),
        array("Lower case as differences.", "LowerCaseRun kLowerCase[]", lower_case()),
        array("General category Mn.", "CodePointRange kNonspacingMarks[]", nonspacing_marks()),
    ])
    write("unicode_compatibility.inc", [
        array("Runs that map to consecutive code points.", "CompatibilityRun kCompatibilityRuns[]", single),
        array("Longer mappings: their length in the pool, in order.", "CompatibilityMapping kCompatibilityMappings[]", several),
        array("Full compatibility decompositions.", "char32_t kCompatibilityPool[]", pool),
    ])


if __name__ == "__main__":
    main()
