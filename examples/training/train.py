"""One command from text to a model that the runtime loads.

    python train.py --text TEXT --out OUT --minutes 10

prepares the text, trains, evaluates on what was held out, and writes config.json, model.safetensors, tokenizer.json and
model-card.md to OUT/model. Run it again to go on where it was stopped.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import card
import checkpoint
from config import preset, without_selection
from data import Batches
from evaluate import evaluate
from model import Taipan
from prepare import prepare, retellings

# Weight decay shrinks the gate to a tie, because the straight-through gradient does not care for its margin.
NO_DECAY = ("gate.weight",)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--text", type=Path, help="folder of text, see prepare.py; not needed if OUT/tokens is there")
    add("--tokens", type=Path, help="folder that prepare.py wrote [default: OUT/tokens]")
    add("--retell", action="append", default=[], metavar="NAME=TIMES", help="tell a source's stories again with other names")
    add("--out", type=Path, required=True)
    add("--mix", type=Path, help="weights of the sources over time [default: by size]")
    add("--size", default="small", help="tiny, small, medium or 190m")
    add("--vocab-size", type=int, default=4096)
    add("--variant", default="taipan", help="taipan; for comparison mamba (no attention) or full (attention for all)")
    stop = parser.add_mutually_exclusive_group(required=True)
    stop.add_argument("--minutes", type=float, help="of training; the schedule follows the clock")
    stop.add_argument("--steps", type=int)
    add("--length", type=int, default=2048, help="tokens of a sequence")
    add("--batch", type=int, default=32, help="sequences of a step")
    add("--lr", type=float, default=3e-3, help="peak of the learning rate")
    add("--weight-decay", type=float, default=0.1)
    add("--budget-weight", type=float, default=10.0, help="λ of the budget loss")
    add("--margin-weight", type=float, default=0.1, help="of the loss that keeps gates away from a tie")
    add("--noise", type=float, default=1.0, help="scale of the gate's Gumbel noise at the start")
    add("--noise-until", type=float, default=0.6, help="share of the training after which the gate has no noise")
    add("--init", type=Path, help="folder of a model to go on from, with a new schedule")
    add("--reopen", action="store_true", help="let all tokens attend at first; only together with --init")
    add("--seed", type=int, default=1)
    add("--log-every", type=int, default=20)
    add("--save-every", type=float, default=120, help="seconds between checkpoints")
    add("--train-only", action="store_true", help="no evaluation and no card")
    add("--no-compile", action="store_true")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.reopen and options.init is None:
        parser.error("--reopen without --init: expected a trained model, because a new one does not survive it")
    return options


def optimizer(model: nn.Module, lr: float, decay: float, fused: bool) -> torch.optim.AdamW:
    """AdamW; decay for matrices only, and never for the gate."""
    named = list(model.named_parameters())
    decayed = [p for n, p in named if p.dim() == 2 and not n.endswith(NO_DECAY)]
    rest = [p for n, p in named if p.dim() != 2 or n.endswith(NO_DECAY)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, fused=fused)


def learning_rate(progress: float, warmup: float, peak: float) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if progress < warmup:
        return peak * progress / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
    return peak * (0.02 + 0.98 * cosine)


def noise_scale(progress: float, start: float, until: float) -> float:
    return start * max(0.0, 1.0 - progress / until) if until > 0 else 0.0


def budget(progress: float, target: float, reopen: bool) -> float:
    """The share of tokens that may attend.

    Reopened, it goes from all tokens to the target, so that attention of a trained model finds out what it is good for. A
    new model must not begin so: each selected token's stream is replaced, for the most part, by attention that has learnt
    nothing, and it stays two nats behind.
    """
    if not reopen:
        return target
    done = min(1.0, max(0.0, (progress - 0.1) / 0.45))
    return target + (1 - target) * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    def __init__(self, options: argparse.Namespace, batches: Batches):
        self.options, self.batches = options, batches
        torch.manual_seed(options.seed)
        torch.set_float32_matmul_precision("high")
        self.device = torch.device(options.device)
        config = without_selection(preset(options.size, options.vocab_size), options.variant)
        config.max_trained_length = options.length
        self.model = Taipan(config).to(self.device)
        if options.init is not None:
            self.model.load_state_dict(checkpoint.load(options.init).state_dict())
        self.optimizer = optimizer(self.model, options.lr, options.weight_decay, self.device.type == "cuda")
        self.budget = config.attention_budget
        self.step, self.seconds, self.saved = 0, 0.0, time.monotonic()
        self.log: list[dict[str, float | list[float]]] = []
        self.entropy = cross_entropy
        self.file = options.out / "training.pt"
        if self.file.exists():
            self.resume()
        if self.device.type == "cuda" and not options.no_compile:
            self.compile()

    def compile(self) -> None:
        """Each layer is compiled once for all layers of its kind: a minute less than the model as a whole."""
        for layer in self.model.layers:
            layer.compile(dynamic=False)
        self.entropy = torch.compile(cross_entropy, dynamic=False)

    def to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def losses(self, ids: Tensor, weights: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(cross-entropy, shares selected, margin loss, cross-entropy with weights)"""
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.model(ids[:, :-1], noise=noise)
            entropy, weighted = self.entropy(out.logits, ids[:, 1:], weights)
        if not out.gates:
            nothing = entropy.new_zeros(0)
            return entropy, nothing, entropy.new_zeros(()), weighted
        shares = torch.stack([g.mask.mean() for g in out.gates])
        return entropy, shares, sum(margin_loss(g.margin) for g in out.gates), weighted

    def progress(self) -> float:
        if self.options.steps:
            return self.step / self.options.steps
        return self.seconds / (60 * self.options.minutes)

    def train(self) -> None:
        o = self.options
        warmup = 0.02
        began, before, tokens = time.monotonic(), self.seconds, 0
        print(f"{sum(p.numel() for p in self.model.parameters()):,} parameters, from step {self.step}", flush=True)
        while (progress := self.progress()) < 1.0:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(progress, warmup, o.lr)
            noise = torch.tensor(noise_scale(progress, o.noise, o.noise_until), device=self.device)
            ids, weights = (self.to_device(array) for array in self.batches.at(self.step, progress))
            entropy, shares, margins, loss = self.losses(ids, weights, noise)
            over = (shares - budget(progress, self.budget, o.reopen)).square().sum()
            (loss + o.budget_weight * over + o.margin_weight * margins).backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            tokens += o.batch * o.length
            if self.step % o.log_every == 0 or self.step == 1:
                nats = entropy.item()  # waits for the device, so the clock is right
                if not math.isfinite(nats):
                    raise SystemExit(f"step {self.step}: the loss is {nats}; try a lower --lr")
                now = time.monotonic()
                self.seconds = before + now - began
                self.report(nats, norm.item(), shares.tolist(), progress, tokens / (now - began), float(noise))
                if now - self.saved > o.save_every:
                    self.save()
        self.seconds = before + time.monotonic() - began
        self.save()

    def report(self, loss: float, norm: float, shares: list[float], progress: float, rate: float, noise: float) -> None:
        """One line; `selected` is what the noisy gates chose, so from the end of the noise it is what inference chooses."""
        quiet = self.noiseless() if self.step % (10 * self.options.log_every) == 0 else None
        row = {"step": self.step, "progress": round(progress, 4), "loss": round(loss, 4), "tokens_per_s": round(rate),
               "lr": float(f"{self.optimizer.param_groups[0]['lr']:.3g}"), "grad_norm": round(norm, 3),
               "noise": round(noise, 3), "selected": [round(s, 3) for s in shares]}
        if quiet is not None:
            row["selected_noiseless"] = quiet
        if (watts := power(self.device)) is not None:
            row["watts"] = watts
        self.log.append(row)
        print(" ".join(f"{k} {v}" for k, v in row.items()), flush=True)

    @torch.no_grad()
    def noiseless(self) -> list[float]:
        """Without the compiler: it would spend longer on this than the training does on a hundred steps."""
        ids = torch.from_numpy(self.batches.at(0, self.progress())[0][:4, :-1]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16), torch.compiler.set_stance("force_eager"):
            gates = self.model(ids).gates
        return [round(g.mask.mean().item(), 3) for g in gates]

    def facts(self) -> dict[str, object]:
        """What the card says about the training."""
        o = self.options
        watts = [row["watts"] for row in self.log if "watts" in row]
        on_gpu = self.device.type == "cuda"
        return {
            "variant": o.variant, "parameters": sum(p.numel() for p in self.model.parameters()),
            "steps": self.step, "tokens": self.step * o.batch * o.length, "batch": o.batch, "length": o.length,
            "lr": o.lr, "weight_decay": o.weight_decay, "budget_weight": o.budget_weight, "margin_weight": o.margin_weight,
            "init": None if o.init is None else o.init.name, "reopen": o.reopen, "noise": o.noise, "noise_until": o.noise_until,
            "seed": o.seed, "minutes": round(self.seconds / 60, 2), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} CPU threads",
            "mean_watts": round(sum(watts) / len(watts)) if watts else None, "log": self.log,
        }

    def save(self) -> None:
        """Whole or not at all: an interrupted write must not cost the training."""
        self.saved = time.monotonic()
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
                 "seconds": self.seconds, "log": self.log, "rng": torch.get_rng_state()}
        part = self.file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.file)

    def resume(self) -> None:
        state = torch.load(self.file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.log = state["step"], state["seconds"], state["log"]
        torch.set_rng_state(state["rng"].cpu())


def power(device: torch.device) -> float | None:
    """Watts that the whole device draws, where they can be asked for."""
    try:
        return torch.cuda.power_draw() / 1000 if device.type == "cuda" else None
    except Exception:  # the library that answers is optional, and drivers may refuse
        return None


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token alike, and with weights."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.detach().mean(), (losses * weights.flatten()).sum() / weights.sum()


def margin_loss(margin: Tensor) -> Tensor:
    """Pushes gates out of the middle, where rounding would decide: the straight-through gradient does not."""
    return F.relu(0.5 - margin.abs()).mean()


def main() -> None:
    options = arguments()
    options.tokens = options.tokens or options.out / "tokens"
    options.out.mkdir(parents=True, exist_ok=True)
    if options.text is not None:
        prepare(options.text, options.tokens, options.vocab_size, retellings(options.retell))
    trainer = Trainer(options, Batches(options.tokens, options.mix, options.length, options.batch, options.seed))
    trainer.train()
    folder = options.out / "model"
    checkpoint.save(trainer.model, folder)
    shutil.copy(options.tokens / "tokenizer.json", folder)
    facts = json.dumps(trainer.facts(), indent=1)
    (options.out / "training.json").write_text(facts + "\n")
    if not options.train_only:
        result = evaluate(folder, options.tokens, options.device)
        (options.out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
        card.write(options.out, options.tokens)
    print(f"the model is in {folder}; to run it: taipan generate -m {folder} \"Once upon a time\"")


if __name__ == "__main__":
    main()
