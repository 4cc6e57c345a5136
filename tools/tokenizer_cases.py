#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/tokenizers: small vocabularies of every kind and the ids their makers' libraries give for hard strings.

usage: tools/tokenizer_cases.py [OUT]      needs the Python packages tokenizers and sentencepiece

NAME.json is a tokenizer.json (or, "spm_*", tokens, scores and types as a GGUF file holds them); NAME.jsonl has one object
a line: text, ids with special tokens as plain text, and ids_special where recognising them makes a difference.
"""
import base64, io, json, pathlib, random, sys, tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
import sentencepiece

# Our own words: nothing here is fetched.
CORPUS = """
A quern is a hand mill: two stones, one turning on the other, and the grain between them.
It grinds what you have grown on the stones that you own, slowly, and nobody asks who eats the bread.
def grind(grain, stones=2):
    return [flour for kernel in grain if kernel.dry() for flour in kernel.split(stones)]
for (int i = 0; i < 1024; ++i) { sum += values[i] * weights[i]; }   // 1,024 products
Ein Mühlstein wiegt dreißig Kilogramm; der Müller hört ihn schon von weitem. Größe: 0,45 m.
La meule tourne, l'été comme l'hiver; elle ne s'arrête qu'à Noël. Ça coûte 12,50 euros.
Мельница мелет зерно, а ветер поёт. Жернова весят по сто килограммов.
石磨是用手推的。磨面要慢，不要急。二〇二四年有三百六十五天。
石臼で粉を挽く。ゆっくり回すと、よい粉になる。
맷돌은 손으로 돌린다. 곡식을 갈아 가루를 만든다.
الرحى حجران، أحدهما يدور فوق الآخر. चक्की हाथ से चलती है। 
He's sure they've said it's what we'll need; I'd rather it didn't. WE'RE SHOUTING NOW, AREN'T WE?
2024-11-24T19:50:00Z 3.14159265 1e-9 0x1F600 100000000 ½ ² Ⅷ ٣٤٥
https://example.org/a/b?c=d&e=f#g user@example.org C:\\Temp\\file.txt ../up/and/over $HOME ~/bin
{"name": "mill", "stones": [1, 2], "wet": false, "note": null}
""" * 3


def hard_strings():
    fixed = ["", " ", "  ", "   a", "a ", "a  b", "\n", "\n\n", " \n", "\t\tx", "a\r\nb", "\u00a0", "\u3000\u3000x", "x\u2028y", "\u200b", "\u200d",
             "it's", "IT'S", "we'll we'LL", "' s", "'\u017f", "don\u2019t", "0", "12", "123", "1234", "12345678", "1,234.5", "٣٤٥", "Ⅷ½", "...", "?!?!",
             "a.b,c;d", "--flag", "a_b", "camelCase", "ABCdef", "<|user|>", "<s>", "</s>", "<unk>", "a<s>b", " <s> ", "<s><s>", "<|user|>\nhi", "<sx>",
             "e\u0301", "\u00e9", "a\u0323\u0307", "\u1100\u1161\u11a8", "\uac01", "\ufb01", "\uff21\uff22", "①", "ﷺ", "😀", "👩‍👩‍👧", "🇩🇪", "🏽", "\U0001f6dd",
             "石磨是用手推的", "石磨quern石", "ゆっくり回す", "맷돌은", "الرحى", "चक्की", "พูดไทย", "\U00020000", "\u0378", "\ue000", "\uffff", "a\x00b", "\x7f", "\x1b[0m",
             "▁", "▁a", "a▁b", " ▁ ", "<0x41>", "Ġ", "Ċ", "mask", " mask", "mask me", "unmask", "the mask!", "[SEP]", " [SEP] x", "x[SEP]y", "ABC[SEP]"]
    words = CORPUS.split()
    rng = random.Random(1)
    mixed = ["".join(rng.choice(["", " ", "  ", "\n", "-"]) + rng.choice(words) for _ in range(rng.randrange(1, 12))) for _ in range(60)]
    alphabet = "aBé1 ٣.石'\n\t▁ǅ😀\u0301ß\u3000/"
    noise = ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 20))) for _ in range(60)]
    return fixed + mixed + noise + ["a" * 300, " " * 300, "石" * 100, "ab" * 150, "\u0301" * 50, "0" * 100]


SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>"]


def train_bpe(tok, size=600):
    tok.train_from_iterator(CORPUS.splitlines(), trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if "ByteLevel" in str(tok.pre_tokenizer) else []))
    return tok


def byte_bpe():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, 480)
    tok.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tok


def byte_bpe_prefix():
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    return train_bpe(tok, 420)


def with_bytes(tok, **settings):
    """The same with byte tokens behind its vocabulary."""
    doc = json.loads(tok.to_str())
    n = len(doc["model"]["vocab"])
    doc["model"]["vocab"] |= {f"<0x{b:02X}>": n + b for b in range(256)}
    doc["model"] |= {"byte_fallback": True, "unk_token": "<unk>"} | settings
    return Tokenizer.from_str(json.dumps(doc))


def llama_bpe():
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    train_bpe(tok, 500)
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return with_bytes(tok)


def metaspace_bpe():
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tok.decoder = decoders.Metaspace(prepend_scheme="first")
    return train_bpe(tok, 400)


def split_bpe():
    """Split behaviours and added tokens with all their flags."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tok.normalizer = normalizers.NFD()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\s+"), "removed"), pre_tokenizers.Split("-", "merged_with_previous"), pre_tokenizers.Split(Regex(r"[\/.]"), "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\p{Lu}"), "contiguous"), pre_tokenizers.Split(Regex(r"[a-z]+"), "isolated", invert=True), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)])
    train_bpe(tok, 400)
    tok.add_tokens([AddedToken("mask", single_word=True, normalized=False), AddedToken("Café", normalized=True), AddedToken("[SEP]", lstrip=True, rstrip=True, normalized=False)])
    return tok


def whitespace_bpe():
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    tok.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Replace(Regex(" {2,}"), "_")])
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    return train_bpe(tok, 400)


def unigram():
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.NFKC()
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    tok.train_from_iterator(CORPUS.splitlines(), trainers.UnigramTrainer(vocab_size=300, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False))
    return tok


# A small normalisation table of our own: what a text becomes, as sentencepiece reads it (code points in hexadecimal).
RULES = {"\uff21": "A", "\uff22": "B", "\ufb01": "fi", "\t": " ", "\n": " ", "\u00a0": " ", "\u3000": " ", "e\u0301": "\u00e9", "\u2460": "1", "\u200b": "", "...": "\u2026"}


def sentencepiece_model(kind):
    out = io.BytesIO()
    rules = tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8")
    spelled = lambda text: " ".join(f"{ord(c):X}" for c in text)
    rules.write("".join(f"{spelled(a)}\t{spelled(b)}\n" for a, b in RULES.items()))
    rules.flush()
    normalization = {"normalization_rule_name": "identity"} if kind == "bpe" else {"normalization_rule_tsv": rules.name}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS.splitlines()), model_writer=out, model_type=kind, vocab_size=700 if kind == "bpe" else 560,
        byte_fallback=kind == "bpe", character_coverage=0.98, **normalization, remove_extra_whitespaces=kind != "bpe",
        hard_vocab_limit=False, minloglevel=2)
    return out.getvalue()


def spm_document(blob, kind):
    import sentencepiece.sentencepiece_model_pb2 as pb
    proto = pb.ModelProto.FromString(blob)
    doc = {"model": "llama" if kind == "bpe" else "t5", "tokens": [p.piece for p in proto.pieces], "scores": [p.score for p in proto.pieces], "types": [p.type for p in proto.pieces],
           "unknown": proto.trainer_spec.unk_id, "charsmap": base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()}
    return doc


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1] / "tests/data/tokenizers")
    texts = hard_strings()
    for make in (byte_bpe, byte_bpe_prefix, llama_bpe, metaspace_bpe, split_bpe, whitespace_bpe, unigram):
        tok = make()
        doc = json.loads(tok.to_str())
        (out / f"{make.__name__}.json").write_text(json.dumps(doc, ensure_ascii=False, separators=(",", ":")) + "\n")
        rows = []
        for text in texts:
            if make is unigram and any(name in text for name in SPECIAL):
                continue  # the library's unigram model finds control tokens in plain text; ours must not
            row = {"text": text}
            for key, plain in (("ids", True), ("ids_special", False)):
                tok.encode_special_tokens = plain
                row[key] = tok.encode(text, add_special_tokens=False).ids
            if row["ids"] == row["ids_special"]:
                del row["ids_special"]
            rows.append(row)
        (out / f"{make.__name__}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        print(make.__name__, tok.get_vocab_size(), len(rows))
    for kind in ("bpe", "unigram"):
        blob = sentencepiece_model(kind)
        sp = sentencepiece.SentencePieceProcessor(model_proto=blob)
        (out / f"spm_{kind}.json").write_text(json.dumps(spm_document(blob, kind), ensure_ascii=False, separators=(",", ":")) + "\n")
        rows = [{"text": t, "ids": sp.encode(t)} for t in texts if "\0" not in t]
        (out / f"spm_{kind}.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        print("spm", kind, sp.vocab_size(), len(rows))


main()
