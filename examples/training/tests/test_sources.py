"""The forms of the source files, on small examples of each."""

from pathlib import Path

import pytest

import sources

FORMS = {
    "markdown": (sources.markdown, "\n## CHAPTER I - A Start\n\nHe said _no_\nto her.\n\n* * *\n\nShe went.", "CHAPTER I - A Start\n\nHe said no to her.\n\nShe went."),
    "storybook": (sources.storybook, "# Smile Please!\n\n##\nA fawn ran.\n\n##\nHe fell.\nHe cried.\n\n##\n* License: [CC-BY]\n* Text: A\n", "A fawn ran.\n\nHe fell. He cried."),
    "fairytale": (sources.fairytale, "section,text\n1,\"He said: \"\"Yes.\"\"\nThen\"\n2,They left.\n", "He said: \"Yes.\" Then\n\nThey left."),
    "novel": (sources.novel, '<TEI xmlns="http://www.tei-c.org/ns/1.0"><text><front><p>No.</p></front><body><div><head> I. </head>'
              "<p>No <hi>traveller</hi>\n can <pb n=\"2\"/> pass.</p></div></body></text></TEI>", "I.\n\nNo traveller can pass."),
    "gutenberg": (sources.gutenberg, "Header\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\nAlice was\nbeginning. [Illustration: A rabbit]\n\n"
                  "She ran.\n\n*** END OF THIS PROJECT", "Alice was beginning.\n\nShe ran."),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    clean, text, expected = FORMS[form]
    assert clean(text) == expected


@pytest.mark.parametrize("text", ['[{"story": "A b."}, {"story": "C."}]', '{"text": "A b."}\n{"text": "C."}', "A b.<|endoftext|>C.", "A b.\nC."])
def test_stories(text: str) -> None:
    assert sources.stories(text) == ["A b.", "C."]


def test_every_source_can_be_read_and_credited() -> None:
    table = sources.rows()
    assert len(table) > 1000
    for row in table:
        sources.reader(row)
        assert len(row["commit"]) == 40 and row["licence"] and row["split"] in ("train", "heldout"), row
        assert row["source"] != "storybooks" or row["credit"], f"no attribution: {row}"


def test_a_missing_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is missing: expected .* at "):
        sources.documents(sources.rows()[0], tmp_path)
