"""Token ids of awkward texts, as the Python package `tokenizers` makes them.

    python -m pip install -r tests/golden/tokenizers/requirements.txt
    python tests/golden/tokenizers/make.py
"""

import gzip
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
FILES = {
    "gpt-neox-20b": HERE / "gpt-neox-20b.tokenizer.json.gz",
    "embedded": HERE / "../../../crates/cli/model/tokenizer.json",
}

TEXTS = [
    "",
    " ",
    "Once upon a time",
    "Hello, world! It's the user's; they'll say we've won, I'd bet you're sure I'm 100% right.",
    "IT'S O'CLOCK 'S 'Ll 'x ''s",
    "  two  spaces\n\n\ttab\r\n \n  end  ",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff\x0bg\x0ch\x85i",
    "1234567890 12,345.67 ½ Ⅷ ²³ ٣٤ १२",
    "naïve café — “quotes” … €£¥",
    "e\u0301 o\u0308 \u1e9b\u0323 ﬁ Å Å",
    "Ελληνικά русский עברית العربية हिन्दी ไทย",
    "日本語の文字。中文字符，한국어",
    "🐍 🧑‍🚀 👩‍👩‍👧‍👦 🇩🇪 ☺️ 👍🏽",
    "<|endoftext|>Once<|endoftext|><|padding|> <|endoftext|",
    "def f(x):\n    if x > 0:\n        return [x ** 2 for _ in range(10)]  # why\n\n\n",
    "\x00\x01\x02\x7f \ufffd \ue000",
    "snake_case camelCase kebab-case http://example.org/a?b=c&d=%20#e",
    "word" * 30 + " " * 40 + "=" * 50 + "\n" * 12,
    "ſtraße İstanbul ıI ﷺ \u0301start",
]


def noise(seed: int) -> str:
    """Characters of all kinds in any order."""
    rng = random.Random(seed)
    kinds = ["abcXYZ '", "0123456789", " \t\n\r", "'sdmtlvre", "äöüßéñ", "日本語字", "🐍👍🏽‍🚀", "\u0301\u0308\u200d", ".,;:!?-_/\\<|>"]
    return "".join(rng.choice(rng.choice(kinds)) for _ in range(120))


def main() -> None:
    texts = TEXTS + [noise(seed) for seed in range(20)]
    out = {}
    for name, path in FILES.items():
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        cases = []
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
        out[name] = cases
    lines = [f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]" for name, cases in out.items()]
    (HERE / "ids.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
