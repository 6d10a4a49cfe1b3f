"""From a folder of text to a tokenizer and files of token ids.

The folder holds one file per source: `NAME.jsonl` or `NAME.jsonl.xz` with an object per document (`text`, and `split`
"train" or "heldout"), or `NAME.txt` with documents separated by <|endoftext|>. Where no document says that it is held
out, one in fifty is, by the hash of its text; a single long document gives its last fiftieth.
"""

import argparse
import hashlib
import json
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from names import retold

END = "<|endoftext|>"
HELD_OUT = 50
# Long documents are encoded in pieces, cut at paragraphs, so that all cores have work.
PIECE = 50_000


def documents(file: Path) -> Iterator[tuple[str, str]]:
    """(split, text) of every document."""
    opener = lzma.open if file.suffix == ".xz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        if ".jsonl" in file.name:
            for number, line in enumerate(lines, 1):
                try:
                    record = json.loads(line)
                    text = record["text"]
                except (ValueError, KeyError) as error:
                    raise SystemExit(f"{file}, line {number}: expected an object with `text`, found {line[:60]!r}") from error
                yield record.get("split", ""), text
        else:
            for text in lines.read().split(END):
                if text.strip():
                    yield "", text.strip()


def split(file: Path) -> dict[str, list[str]]:
    """The documents of a source, those to train on and those held out."""
    found = list(documents(file))
    parts: dict[str, list[str]] = {"train": [], "heldout": []}
    if any(name for name, _ in found):
        for name, text in found:
            parts[name or "train"].append(text)
    elif len(found) == 1:
        text = found[0][1]
        cut = len(text) - len(text) // HELD_OUT
        parts = {"train": [text[:cut]], "heldout": [text[cut:]]}
    else:
        # By hash, so that it does not matter where a document stands, and all copies of a text are on the same side.
        marks = [hashlib.sha256(text.encode()).digest() for _, text in found]
        held = set(sorted(set(marks))[: max(1, len(set(marks)) // HELD_OUT)])
        for mark, (_, text) in zip(marks, found):
            parts["heldout" if mark in held else "train"].append(text)
    return parts


def sources(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.name.endswith((".jsonl", ".jsonl.xz", ".txt")))
    if not files:
        raise SystemExit(f"{folder}: expected files NAME.jsonl, NAME.jsonl.xz or NAME.txt, found none")
    return files


def source_name(file: Path) -> str:
    return file.name.split(".")[0]


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE, as GPT-2's: every text can be encoded and comes back unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sample(texts: list[str], most: int) -> Iterator[str]:
    """The beginning of every document, so that no source gives more than about `most` characters."""
    each = max(2000, most // max(1, len(texts)))
    return (text[:each] for text in texts)


def cut(text: str) -> list[str]:
    pieces, piece, size = [], [], 0
    for paragraph in text.split("\n\n"):
        if size > PIECE:
            pieces.append("\n\n".join(piece))
            piece, size = [""], 0  # the blank line goes to the next piece, where a word follows it
        piece.append(paragraph)
        size += len(paragraph)
    return pieces + ["\n\n".join(piece)]


def encode(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """The ids of all documents, each followed by the end-of-text token."""
    ids = []
    for text in texts:
        for piece in tokenizer.encode_batch(cut(text)):
            ids.append(np.array(piece.ids, np.uint16))
        ids.append(np.zeros(1, np.uint16))
    return np.concatenate(ids) if ids else np.zeros(0, np.uint16)


def prepare(text: Path, out: Path, vocab_size: int, retell: dict[str, int], per_source: int = 8_000_000) -> None:
    """Writes tokenizer.json, NAME.train.bin, NAME.heldout.bin and sizes.json to `out`. What is there is kept."""
    if (out / "sizes.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    parts = {source_name(file): split(file) for file in sources(text)}
    if not (out / "tokenizer.json").exists():
        texts = (part for source in parts.values() for part in sample(source["train"], per_source))
        train_tokenizer(texts, vocab_size).save(str(out / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    if tokenizer.token_to_id(END) != 0 or tokenizer.get_vocab_size() > 65536:
        raise SystemExit(f"{out / 'tokenizer.json'}: expected {END} as token 0 and at most 65536 tokens")
    sizes = {}
    for name, source in parts.items():
        for part, texts in source.items():
            again = retell.get(name, 1) if part == "train" else 1
            ids = encode(tokenizer, retold(texts, again))
            ids.tofile(out / f"{name}.{part}.bin")
            size = {"documents": len(texts), "tokens": len(ids), "bytes": sum(len(t.encode()) for t in texts),
                    "retold": again}
            sizes[f"{name}.{part}"] = size
            print(f"{name}.{part}: {size}", flush=True)
    (out / "sizes.json").write_text(json.dumps(sizes, indent=1) + "\n")


def retellings(options: list[str]) -> dict[str, int]:
    """NAME=TIMES options."""
    try:
        return {name: int(times) for name, times in (option.split("=") for option in options)}
    except ValueError as error:
        raise SystemExit(f"--retell {options}: expected NAME=TIMES, for example tinystories=8") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="folder of text")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--retell", action="append", default=[], metavar="NAME=TIMES", help="see names.py")
    options = parser.parse_args()
    prepare(options.text, options.out, options.vocab_size, retellings(options.retell))


if __name__ == "__main__":
    main()
