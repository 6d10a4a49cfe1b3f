"""Makes the text of the embedded model from the repositories that `sources.tsv` lists by commit and path.

    python sources.py --checkouts DIR --out TEXT [--clone]

DIR holds one checkout per repository, DIR/OWNER/NAME; with --clone, git brings those that are missing. The result is
TEXT/SOURCE.jsonl, with who wrote what under which licence, ready for prepare.py. Files of unknown form are an error.

The weights we ship were trained on texts cleaned with more care than here: paragraphs that several books share and some
front matter were dropped too. So a run will not repeat ours to the last digit.
"""

import argparse
import csv
import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

TABLE = Path(__file__).parent / "sources.tsv"
TEI = "{http://www.tei-c.org/ns/1.0}"


def join(paragraphs: Iterator[str] | list[str]) -> str:
    """Paragraphs of one line each, a blank line between them."""
    return "\n\n".join(line for p in paragraphs if (line := " ".join(p.split())))


def gutenberg(text: str) -> str:
    """The book between Project Gutenberg's marks, without notes on pictures."""
    start = re.search(r"\*\*\* ?START OF.*?\*\*\*|\*END\*? ?THE SMALL PRINT.*?\n", text, re.S)
    text = text[start.end() :] if start else text
    text = re.split(r"\*\*\* ?END OF|End of (?:the )?Project Gutenberg", text)[0]
    text = re.sub(r"\[(?:Illustration|Footnote|Transcriber)[^\]]*\]|\[\d+\]", "", text)
    return join(re.split(r"\n\s*\n", text.replace("_", "")))


def markdown(text: str) -> str:
    """Without marks of headings, emphasis and rules."""
    text = re.sub(r"^#+ *|^[-*_ ]{3,}$|!\[[^\]]*\]\([^)]*\)", "", text, flags=re.M)
    text = re.sub(r"(?<!\w)[*_]{1,3}|[*_]{1,3}(?!\w)|\[\^?\d+\]", "", text)
    return join(re.split(r"\n\s*\n", text))


def storybook(text: str) -> str:
    """Pages between `##`; the title and the list of credits are left out."""
    pages = re.split(r"^##.*$", text, flags=re.M)[1:]
    return join(p for page in pages if not page.lstrip().startswith("* ") for p in page.split("\n\n"))


def novel(text: str) -> str:
    """The paragraphs of a TEI body."""
    body = ElementTree.fromstring(text).find(f".//{TEI}body")
    if body is None:
        raise ValueError("expected a TEI body")
    return join("".join(e.itertext()) for e in body.iter() if e.tag in (f"{TEI}p", f"{TEI}head", f"{TEI}l"))


def fairytale(text: str) -> str:
    return join(row["text"] for row in csv.DictReader(io.StringIO(text)))


def one(clean: Callable[[str], str]) -> Callable[[str], list[str]]:
    """For files that are a single document."""
    return lambda text: [clean(text)]


def stories(text: str) -> list[str]:
    """A JSON list, JSON lines, or text with end-of-text marks."""
    text = text.strip()
    if text.startswith("["):
        found = json.loads(text)
    elif text.startswith("{"):
        found = [json.loads(line) for line in text.splitlines()]
    else:
        found = text.split("<|endoftext|>")
        if len(found) == 1:
            found = text.splitlines()  # one story a line
    texts = [(s.get("text") or s.get("story") or "") if isinstance(s, dict) else s for s in found]
    return [cleaned for s in texts if (cleaned := join(re.split(r"\n\s*\n|\n", s)))]


def reader(row: dict[str, str]) -> Callable[[str], list[str]]:
    """What makes text of a file, by its source and its name."""
    match row["source"], Path(row["path"]).suffix:
        case "tinystories", _:
            return stories
        case "storybooks", ".md":
            return one(storybook)
        case "fairytales", ".csv":
            return one(fairytale)
        case "novels", ".xml":
            return one(novel)
        case _, ".md":
            return one(markdown)
        case _, ".txt" | "":
            return one(gutenberg)
    raise SystemExit(f"sources.tsv: {row['path']}: expected a file of a known form (.md, .txt, .csv, .xml)")


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def clone(folder: Path, repository: str, commit: str) -> None:
    """One commit, without history."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in (["init", "-q"], ["fetch", "-q", "--depth", "1", f"https://github.com/{repository}", commit],
                    ["checkout", "-q", commit]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def documents(row: dict[str, str], checkouts: Path) -> list[dict[str, str]]:
    file = checkouts / row["repository"] / row["path"]
    if not file.exists():
        raise SystemExit(f"{file} is missing: expected {row['repository']} at {row['commit']} there; --clone brings it")
    texts = reader(row)(file.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n"))
    about = {key: row[key] for key in ("title", "credit", "licence", "repository", "commit", "path")}
    found = [{"text": text, "split": row["split"], **about} for text in texts]
    if "held out" in row["title"]:
        for story in found[-400:]:
            story["split"] = "heldout"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkouts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clone", action="store_true", help="bring missing repositories with git")
    options = parser.parse_args()
    table = rows()
    for repository, commit in dict.fromkeys((row["repository"], row["commit"]) for row in table):
        folder = options.checkouts / repository
        if options.clone and not folder.exists():
            clone(folder, repository, commit)
    options.out.mkdir(parents=True, exist_ok=True)
    for source in dict.fromkeys(row["source"] for row in table):
        found = [doc for row in table if row["source"] == source for doc in documents(row, options.checkouts)]
        lines = [json.dumps(doc, ensure_ascii=False) for doc in found]
        (options.out / f"{source}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{source}: {len(found)} documents, {sum(len(doc['text']) for doc in found) / 1e6:.1f} M characters")


if __name__ == "__main__":
    main()
