#!/usr/bin/env python3
"""Writes component_cases.json: what Hugging Face `tokenizers` (0.23.3) and Python's unicodedata answer for many small
tokenizer documents, one component or option each.

Usage: python3 make_reference_cases.py [OUTPUT] [--texts N]     (needs `pip install tokenizers==0.23.3`)

All texts are generated here. The test reads the result and needs no Python.
"""

import argparse
import json
import pathlib
import random
import unicodedata

import tokenizers

WHITE = list(" \n\t\r\u00a0\u2003\u3000\u180e")
LETTERS = list("abcdeABCsStdlmrv") + list("éñßİſΣςﬁ你好日本かカ한글ع\u0301\u0323\u0327\u1100\u1161\u11a8")
OTHERS = list("0129¼²Ⅷ٣'.,!?-_~`|<>$+^=\"/🦙\u200d\u200b\u2581")
WORDS = ["tala", "miro", "senu", "tal", "mi", "taro", "sen", "luna", "Tala", "I'll", "we've", "a'S", "12", "345", "ta"]
ADDED = ["<a>", "<b>", "<c>", "<d>", "<e>", "<aa>"]

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def random_text(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return "".join(rng.choice(rng.choice([WHITE, LETTERS, OTHERS])) for _ in range(rng.randrange(0, 25)))
    if kind == 1:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 9)))
    pieces = [WORDS, WHITE, [" "], OTHERS, ADDED if kind == 2 else WORDS]
    return "".join(rng.choice(rng.choice(pieces)) for _ in range(rng.randrange(1, 16)))


def train(kind):
    rng = random.Random(7)
    model = tokenizers.models.BPE(unk_token="<unk>" if kind != "bytes" else None)
    tokenizer = tokenizers.Tokenizer(model)
    options = {}
    if kind == "bytes":
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        options["initial_alphabet"] = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        special = []
    elif kind == "metaspace":
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    else:
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        options.update(continuing_subword_prefix="##", end_of_word_suffix="</w>")
        special = ["<unk>"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=460 if kind != "affixes" else 120, special_tokens=special,
                                             show_progress=False, **options)
    words = WORDS + [a + b for a in WORDS[:6] for b in WORDS[:6]] + list("abcdeé你12.,")
    corpus = [" ".join(rng.choice(words) + rng.choice(["", "", ",", " 12", "  "]) for _ in range(12)) for _ in range(200)]
    tokenizer.train_from_iterator(corpus, trainer)
    return json.loads(tokenizer.to_str())["model"]


def added(token_id, content, **flags):
    token = dict(id=token_id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False,
                 special=False)
    return {**token, **flags}


def configurations():
    """(name, model, changes to the model, sections of the document)."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    only_bytes = {**byte_level, "use_regex": False}
    split = lambda pattern, behavior="Isolated", invert=False: {
        "type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
    sequence = lambda *parts: {"type": "Sequence", "pretokenizers": list(parts)}
    normalizers = lambda *parts: {"type": "Sequence", "normalizers": list(parts)}
    as_bytes = dict(pre_tokenizer=byte_level, decoder=byte_level)
    rows = [("byte level", "bytes", {}, as_bytes),
            ("byte level with prefix space", "bytes", {}, dict(pre_tokenizer={**byte_level, "add_prefix_space": True},
                                                               decoder=byte_level)),
            ("ignore merges", "bytes", {"ignore_merges": True}, as_bytes),
            ("no decoder", "bytes", {}, dict(pre_tokenizer=byte_level))]
    for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]:
        rows.append((form, "bytes", {}, dict(as_bytes, normalizer={"type": form})))
    for left in [False, True]:
        strip = {"type": "Strip", "strip_left": left, "strip_right": not left}
        rows.append((f"strip {left}", "bytes", {}, dict(as_bytes, normalizer=strip)))
    rows.append(("clean", "bytes", {}, dict(as_bytes, normalizer=normalizers(
        {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Replace", "pattern": {"String": "ta"}, "content": "[x]"}, {"type": "Strip", "strip_left": True, "strip_right": True}))))
    for name, pattern in [("gpt-4 pattern", GPT4), ("cased pattern", CASED), ("words", r"\w+|\W"), ("boundaries", r"\b"),
                          ("digits", r"\d"), ("scripts", r"\p{Han}+|\p{^L}|\p{Hiragana}"), ("lines", r"^.|$"),
                          ("classes", r"[^\S\n]+|[a-c\d\-\]]+|[[:space:]x]"), ("hex", r"\h+|\H"),
                          ("dot all", r"(?m:a.)"), ("ignoring case", r"(?i)[ast]{2}|\x{e9}|\u4F60")]:
        rows.append((name, "bytes", {}, dict(as_bytes, pre_tokenizer=sequence(split({"Regex": pattern}), only_bytes))))
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            for pattern in [{"Regex": r"[aeiou]|\s"}, {"String": "ta"}]:
                rows.append((f"{behavior} {invert} {pattern}", "bytes", {}, dict(
                    as_bytes, pre_tokenizer=sequence(split(pattern, behavior, invert), only_bytes))))
        rows.append((f"punctuation {behavior}", "bytes", {}, dict(
            as_bytes, pre_tokenizer=sequence({"type": "Punctuation", "behavior": behavior}, byte_level))))
    for one in [False, True]:
        rows.append((f"digits {one}", "bytes", {}, dict(
            as_bytes, pre_tokenizer=sequence({"type": "Digits", "individual_digits": one}, byte_level))))
    rows.append(("splits of byte characters", "bytes", {}, dict(as_bytes, pre_tokenizer=sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level, {"type": "Digits", "individual_digits": False},
        split({"Regex": "[0-9][0-9][0-9]"})))))
    for kind in ["Whitespace", "WhitespaceSplit"]:
        rows.append((kind, "bytes", {}, dict(as_bytes, pre_tokenizer=sequence({"type": kind}, only_bytes))))
    rows.append(("delimiter", "bytes", {}, dict(as_bytes, pre_tokenizer=sequence(
        {"type": "CharDelimiterSplit", "delimiter": "a"}, only_bytes))))

    llama = dict(normalizer=normalizers({"type": "Prepend", "prepend": "▁"},
                                        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
                 decoder={"type": "Sequence", "decoders": [
                     {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                     {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    special_token = lambda name, token_id: {"id": name, "ids": [token_id], "tokens": [name]}
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": special_token("<s>", 1), "</s>": special_token("</s>", 2)}}
    special = [added(0, "<unk>", special=True), added(1, "<s>", special=True), added(2, "</s>", special=True)]
    fallback = {"byte_fallback": True, "fuse_unk": True}
    rows += [("llama", "metaspace", fallback, dict(llama, added_tokens=special, post_processor=template)),
             ("template in a sequence", "metaspace", fallback, dict(llama, added_tokens=special, post_processor={
                 "type": "Sequence", "processors": [byte_level, template]})),
             ("unknown fused", "metaspace", {"fuse_unk": True}, dict(llama, added_tokens=special)),
             ("unknown one by one", "metaspace", {"fuse_unk": False}, dict(llama, added_tokens=special)),
             ("ignore merges of characters", "metaspace", {**fallback, "ignore_merges": True}, llama)]
    for scheme in ["always", "first", "never"]:
        for cut in [False, True]:
            metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
            rows.append((f"metaspace {scheme} {cut}", "metaspace", fallback, dict(
                pre_tokenizer=metaspace, decoder=metaspace,
                added_tokens=special + [added(500, "<a>", special=True), added(501, "<b>", lstrip=True)])))
    # Strips that leave nothing for the next one end that library with a panic.
    for start, stop in [(1, 0), (0, 1)]:
        rows.append((f"strips of each token {start} {stop}", "metaspace", fallback, dict(llama, decoder={
            "type": "Sequence", "decoders": [{"type": "Strip", "content": "a", "start": start, "stop": stop},
                                             {"type": "Replace", "pattern": {"Regex": "▁+"}, "content": "_"}]})))
    rows.append(("prefix and suffix", "affixes", {}, dict(pre_tokenizer={"type": "WhitespaceSplit"})))

    flags = [added(600, "<a>", special=True, lstrip=True), added(601, "<b>", rstrip=True),
             added(602, "<c>", single_word=True), added(603, "<d>", normalized=True),
             added(604, "<aa>", special=True, normalized=True), added(605, "ta", single_word=True),
             added(606, "<e>", special=True, lstrip=True, rstrip=True), added(607, "éß")]
    rows.append(("added tokens", "bytes", {}, dict(as_bytes, added_tokens=flags)))
    rows.append(("added tokens and a normalizer", "bytes", {}, dict(as_bytes, added_tokens=flags + [
        added(608, "<B>", normalized=True), added(609, "é", normalized=True)],
        normalizer=normalizers({"type": "NFD"}, {"type": "Lowercase"}))))
    rows.append(("added tokens in words", "metaspace", fallback, dict(llama, added_tokens=special + flags)))
    return rows


def component_cases(models, texts_each):
    cases = []
    for index, (name, model, changes, sections) in enumerate(configurations()):
        document = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
                        pre_tokenizer=None, post_processor=None, decoder=None)
        document.update(sections)
        vocabulary = models[model]["vocab"]
        document["added_tokens"] = [dict(token) for token in document["added_tokens"]]
        for token in document["added_tokens"]:
            token["id"] = vocabulary.get(token["content"])
        new = [token for token in document["added_tokens"] if token["content"] not in vocabulary]
        for i, token in enumerate(new):
            token["id"] = len(vocabulary) + i
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps({**document, "model": {**models[model], **changes}}))
        normalized = {token["id"] for token in document["added_tokens"] if token["normalized"]}
        rng = random.Random(index)
        rows = []
        for _ in range(texts_each):
            text = random_text(rng)
            add_special, parse_special = rng.random() < 0.5, rng.random() < 0.6
            tokenizer.encode_special_tokens = not parse_special
            ids = tokenizer.encode(text, add_special_tokens=add_special).ids
            decoded = tokenizer.decode(ids, skip_special_tokens=False)
            # A replacement character there stands for bytes that are lost; added tokens with `normalized` are decoded
            # to their normalized text there, to their text here.
            comparable = "\ufffd" not in decoded and not normalized.intersection(ids)
            rows.append([text, add_special, parse_special, ids, decoded if comparable else None])
        cases.append(dict(name=name, model=model, model_changes=changes, document=document, cases=rows))
    return cases


def normalization_cases():
    """[text, NFC, NFD, NFKC, NFKD] for every code point that changes in a form, many to a text, and random texts."""
    forms = ["NFC", "NFD", "NFKC", "NFKD"]
    row = lambda text: [text] + [unicodedata.normalize(form, text) for form in forms]
    rng = random.Random(3)
    marks = [chr(c) for c in range(0x300, 0x370)] + list("\u0f71\u0f72\u0f74\u0344\u0f73\u3099\u0591\u05bf\u20d0")
    bases = list("aeouASqz가각힣\u1100\u1112\u1161\u1175\u11a8\u11c2éÅ\u212b\u1e9b\u0958\ufb1d\u0b47\u0b3e\u09c7ﬃ①ｱﾞか")
    rows = []
    for _ in range(150):
        rows.append(row("".join(rng.choice(rng.choice([marks, bases, [" "]])) for _ in range(rng.randrange(1, 12)))))
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output", nargs="?", default=pathlib.Path(__file__).parent / "component_cases.json")
    parser.add_argument("--texts", type=int, default=10)
    arguments = parser.parse_args()
    models = {kind: train(kind) for kind in ["bytes", "metaspace", "affixes"]}
    result = dict(models=models, components=component_cases(models, arguments.texts), normalization=normalization_cases())
    pathlib.Path(arguments.output).write_text(json.dumps(result, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
