"""The model card: what a reader needs to judge the model, all of it measured."""

import json
from pathlib import Path
from typing import Any

import generate
from config import Config


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def percent(shares: list[float]) -> str:
    return ", ".join(f"{100 * share:.1f} %" for share in shares) or "no gate"


def figures(result: dict[str, Any]) -> str:
    """Tables of the result of evaluate.py."""
    rows = [[name, r["tokens"], r["nats_per_token"], r["bits_per_byte"], percent(r["selected"]), percent(r["margin_under_0.01"])]
            for name, r in result["held_out"].items()]
    text = table(["held out", "tokens", "nats per token", "bits per byte", "selected", "margin < 0.01"], rows)
    distances = result["retrieval"]
    return text + "\n\n" + table(["retrieval at distance", *distances], [["right", *(f"{100 * v:.1f} %" for v in distances.values())]])


def stories(folder: Path, most: int = 300) -> str:
    text = []
    for prompt, story, ended in generate.samples(folder, most):
        end = "" if ended else " […]"
        text.append("> **" + prompt + "**" + story[len(prompt) :].replace("\n", "\n> ") + end)
    return "\n\n".join(text)


def describe(config: Config, facts: dict[str, Any]) -> str:
    layers = ", ".join(f"{config.layer_types.count(kind)} {kind}" for kind in dict.fromkeys(config.layer_types))
    watts = facts["mean_watts"]
    energy = f", {watts * facts['minutes'] / 60_000:.3f} kWh at the device" if watts else ""
    return (f"{facts['parameters']:,} parameters: hidden size {config.hidden_size}, layers {layers}, d_state {config.d_state}, "
            f"window {config.window}, vocabulary {config.vocab_size}. Trained for {facts['steps']} steps of {facts['batch']} × "
            f"{facts['length']} tokens ({facts['tokens'] / 1e6:.1f} M tokens) in {facts['minutes']} minutes on "
            f"{facts['device']}{energy}.")


def write(out: Path, tokens: Path) -> None:
    """The card of the model in `out`, from the files that training and evaluation left there."""
    facts, result = (json.loads((out / name).read_text()) for name in ("training.json", "evaluation.json"))
    sizes = tokens / "sizes.json"
    rows = [[name, s["documents"], s["tokens"]] for name, s in json.loads(sizes.read_text()).items()] if sizes.exists() else []
    config = Config.load(out / "model")
    text = f"""# A Taipan

{describe(config, facts)}

## Text

{table(["source", "documents", "tokens"], rows)}

## Figures

Measured on the weights as they are stored, in f32, windows of {config.max_trained_length} tokens.

{figures(result)}

## Greedy samples, unedited

{stories(out / "model")}

## Still to be written by you

Licence of the weights, licences of the text, what the model is for, and what it must not be used for.
"""
    (out / "model" / "model-card.md").write_text(text)
