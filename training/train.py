"""Train the small CLIP that ships with the package: ``python -m training.train``.

Resumable: stopped at any moment, the same command goes on from the last epoch. On two CPU cores with bfloat16 it takes
seventy minutes. What it writes: ``curation_assets/clip/demo_model/``.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
import transformers

from curation_assets.clip.source import DEMO_FOLDER
from training.augment import colour_jitter, erase, mix, random_view
from training.captions import CLASSES, captions, queries
from training.data import Pictures, real_pictures, rendered_pictures
from training.photographs import FOLDER
from training.tokenizer import write_tokenizer

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's CLIP
_TEXT_TOKENS = 32  # enough for every caption; the model itself takes 77


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result.

    Attributes:
        side: pixels of the square the model sees.
        epochs: with every photograph once, those of rare classes oftener.
        real_repeats: how often a rare class's photograph may come up in one of them.
        rendered_per_epoch: drawn pictures that join the photographs in each epoch.
        balanced_epochs: that follow, with as many photographs of every class: rare ones are the hard ones.
        balanced_per_class: photographs of each class in one of those, each at most twice ``real_repeats`` times.
        balanced_rate: learning rate they begin with.
        queries_per_step: broader texts beside one caption of each class.
        vocabulary: most entries of the tokenizer.
    """

    seed: int = 1
    side: int = 128
    patch: int = 16
    width: int = 192
    layers: int = 8
    heads: int = 3
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 4
    dimension: int = 128
    vocabulary: int = 1500
    epochs: int = 70
    batch: int = 96
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    warm_up_epochs: int = 6
    smoothing: float = 0.1
    mixed_share: float = 0.6
    real_repeats: int = 3
    rendered_per_epoch: int = 1500
    balanced_epochs: int = 30
    balanced_per_class: int = 150
    balanced_rate: float = 5e-4
    queries_per_step: int = 24
    average: float = 0.998
    drop_path: float = 0.1


@dataclass(frozen=True)
class Texts:
    """What can be said of the classes.

    Attributes:
        captions: of each class, many phrasings.
        queries: broader texts, with the classes they hold for.
    """

    captions: dict[str, tuple[str, ...]]
    queries: tuple[tuple[str, frozenset[str]], ...]

    @property
    def all(self) -> list[str]:
        """Every text."""
        return [text for texts in self.captions.values() for text in texts] + [text for text, _ in self.queries]


class Trainer:
    """One training run.

    Args:
        real: photographs to train on.
        rendered: drawn pictures.
        folder: where the checkpoint and the tokenizer lie.
        compiled: compile the image tower, which needs a C++ compiler and pays from a few epochs on.
    """

    def __init__(
        self, real: Pictures, rendered: Pictures, texts: Texts, recipe: Recipe, folder: Path, compiled: bool = False
    ) -> None:
        self.recipe, self.texts, self.folder = recipe, texts, folder
        self.pixels = real.pixels + rendered.pixels
        self.classes = list(texts.captions)
        number = {name: index for index, name in enumerate(self.classes)}
        self.targets = torch.zeros(len(self.pixels), len(self.classes))
        for row, labels in enumerate(real.labels + rendered.labels):
            self.targets[row, [number[label] for label in labels]] = 1 / len(labels)
        self.is_real = torch.arange(len(self.pixels)) < len(real.pixels)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        entries = write_tokenizer(texts.all, folder, recipe.vocabulary)
        self.tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        torch.manual_seed(recipe.seed)
        # Eager attention and a compiled tower: on a CPU, twice the speed of the defaults in training (365 against 157
        # images/s on two cores).
        self.model = transformers.CLIPModel._from_config(configuration(recipe, entries), attn_implementation="eager")
        self.model.to(self.device)
        _drop_paths(self.model, recipe.drop_path)
        self._vision = torch.compile(self.model.vision_model) if compiled else self.model.vision_model
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average)
        )
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.members = torch.zeros(len(texts.queries), len(self.classes))
        for row, (_, classes) in enumerate(texts.queries):
            self.members[row, [number[name] for name in classes]] = 1
        self.epoch = 0
        self._encoded = {text: self._ids(text) for text in texts.all}

    def run(self, until: int | None = None) -> None:
        """Train to the last epoch, from a checkpoint if there is one."""
        checkpoint = self.folder / "checkpoint.pt"
        if checkpoint.is_file():
            self._restore(torch.load(checkpoint, map_location=self.device, weights_only=False))
        whole = self.recipe.epochs + self.recipe.balanced_epochs
        last = min(until or whole, whole)
        while self.epoch < last:
            begun = time.monotonic()
            loss, images = self._train_epoch()
            self.epoch += 1
            seconds = time.monotonic() - begun
            print(f"epoch {self.epoch}/{whole} loss {loss:.3f}, {images / seconds:.0f} images/s", flush=True)
            staged = checkpoint.with_suffix(".tmp")
            torch.save(self._state(), staged)
            staged.replace(checkpoint)

    def export(self, folder: Path) -> None:
        """Write the averaged weights in float16, with tokenizer and preprocessing, in Hugging Face layout.

        A model card that lies there stays.
        """
        model = self.average.module
        model.config.curation_demonstration = True
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            model.half().save_pretrained(scratch)
            model.float()
            for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
                shutil.copy(self.folder / name, scratch)
            (Path(scratch) / "preprocessor_config.json").write_text(
                json.dumps(preprocessing(self.recipe), indent=2) + "\n"
            )
            folder.mkdir(parents=True, exist_ok=True)
            for file in Path(scratch).iterdir():
                shutil.copyfile(file, folder / file.name)

    def _train_epoch(self) -> tuple[float, int]:
        rng = torch.Generator().manual_seed(self.recipe.seed * 100_003 + self.epoch)
        chosen = self._epoch_order(rng)
        steps = len(chosen) // self.recipe.batch
        self.model.train()
        total = 0.0
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(self.epoch + step / steps)
            rows = chosen[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            images, targets = self._batch(rows, rng)
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = self._loss(images, targets, rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, math.log(50))
            self.average.update_parameters(self.model)
            total += loss.item()
        return total / steps, steps * self.recipe.batch

    def _epoch_order(self, rng: torch.Generator) -> torch.Tensor:
        """Photographs as the epoch's kind has them, and some drawn pictures."""
        recipe = self.recipe
        real = self.is_real.nonzero().flatten()
        shows = self.targets[real] > 0
        counts = shows.sum(dim=0).clamp(min=1)
        if self.epoch < recipe.epochs:
            often = (counts.max() / counts).sqrt().clamp(1, recipe.real_repeats)
        else:
            often = (recipe.balanced_per_class / counts).clamp(max=2 * recipe.real_repeats)
        often = (often * shows).amax(dim=1)
        repeats = (often + torch.rand(len(real), generator=rng)).floor().long()
        drawn = (~self.is_real).nonzero().flatten()
        some = drawn[torch.randperm(len(drawn), generator=rng)[: recipe.rendered_per_epoch]]
        chosen = torch.cat([real.repeat_interleave(repeats), some])
        return chosen[torch.randperm(len(chosen), generator=rng)]

    def _batch(self, rows: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        views = [random_view(self.pixels[row], self.recipe.side, rng) for row in rows.tolist()]
        images = torch.stack(views).div_(255).to(self.device)
        images = erase(colour_jitter(images, rng), rng)
        targets = self.targets[rows].to(self.device)
        if torch.rand(1, generator=rng).item() < self.recipe.mixed_share:
            images, targets = mix(images, targets, rng)
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (MEAN, STD))
        return (images - mean) / std, targets

    def _loss(self, images: torch.Tensor, targets: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Image to caption: the caption of its class among one caption of each. Text to image, classes and broader
        queries alike: every image of the batch that it holds for is a positive."""
        picks = torch.rand(len(self.classes), generator=rng).tolist()
        captions = [of[int(p * len(of))] for of, p in zip(self.texts.captions.values(), picks, strict=True)]
        broader = torch.randperm(len(self.texts.queries), generator=rng)[: self.recipe.queries_per_step]
        texts = captions + [self.texts.queries[index][0] for index in broader.tolist()]
        pooled = self._vision(pixel_values=images).pooler_output
        seen = F.normalize(self.model.visual_projection(pooled).float(), dim=1)
        ids = torch.nn.utils.rnn.pad_sequence(
            [self._encoded[text] for text in texts],
            batch_first=True,
            padding_value=self.model.config.text_config.eos_token_id,
        ).to(self.device)
        said = F.normalize(self.model.get_text_features(input_ids=ids).pooler_output.float(), dim=1)
        logits = self.model.logit_scale.exp() * seen @ said.T
        image_to_text = F.cross_entropy(logits[:, : len(captions)], targets, label_smoothing=self.recipe.smoothing)
        holds = torch.cat([targets, targets @ self.members[broader].T.to(self.device)], dim=1).T
        amounts = holds.sum(dim=1)
        present = amounts > 0.3
        wanted = holds[present] / amounts[present, None]
        text_to_image = F.cross_entropy(logits.T[present], wanted)
        return image_to_text + 0.5 * (text_to_image - _floor(wanted))

    def _ids(self, text: str) -> torch.Tensor:
        return torch.tensor(self.tokenizer(text, truncation=True, max_length=_TEXT_TOKENS).input_ids)

    def _rate(self, epoch: float) -> float:
        """Warm-up, then half a cosine down to a hundredth; a second, lower one for the balanced epochs."""
        recipe = self.recipe
        if epoch < recipe.warm_up_epochs:
            return recipe.learning_rate * (epoch + 0.01) / recipe.warm_up_epochs
        if epoch < recipe.epochs:
            part = (epoch - recipe.warm_up_epochs) / (recipe.epochs - recipe.warm_up_epochs)
            return recipe.learning_rate * _half_cosine(part)
        return recipe.balanced_rate * _half_cosine((epoch - recipe.epochs) / recipe.balanced_epochs)

    def _state(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch": torch.get_rng_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{self.folder} holds a run of another recipe; remove it, or give another --work folder")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"].cpu())
        self.epoch = state["epoch"]


def configuration(recipe: Recipe, entries: int) -> transformers.CLIPConfig:
    """The model's shape."""
    end = entries - 1
    return transformers.CLIPConfig(
        text_config={
            "hidden_size": recipe.text_width,
            "intermediate_size": 4 * recipe.text_width,
            "num_hidden_layers": recipe.text_layers,
            "num_attention_heads": recipe.text_heads,
            "vocab_size": entries,
            "max_position_embeddings": 77,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            "hidden_size": recipe.width,
            "intermediate_size": 4 * recipe.width,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "image_size": recipe.side,
            "patch_size": recipe.patch,
            "hidden_act": "gelu",
        },
        projection_dim=recipe.dimension,
    )


def preprocessing(recipe: Recipe) -> dict[str, Any]:
    """``preprocessor_config.json``.

    Random views show things larger than whole pictures do; cutting the middle out of a picture an eighth larger makes
    up for some of it (Touvron et al., "Fixing the train-test resolution discrepancy", 2019).
    """
    return {
        "crop_size": {"height": recipe.side, "width": recipe.side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": recipe.side * 9 // 8},
    }


def _half_cosine(part: float) -> float:
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))


def _floor(wanted: torch.Tensor) -> torch.Tensor:
    """Entropy of the targets: what the loss can't go below."""
    return -(wanted * wanted.clamp(min=1e-9).log()).sum(dim=1).mean()


def _drop_paths(model: transformers.CLIPModel, share: float) -> None:
    """Stochastic depth: in training, some images skip a layer's attention or MLP, those of deeper layers oftener."""
    layers = model.vision_model.encoder.layers
    for depth, layer in enumerate(layers):
        drop = share * depth / max(1, len(layers) - 1)
        for part in (layer.self_attn, layer.mlp):
            part.register_forward_hook(_dropping(drop))


def _dropping(share: float) -> Any:
    def hook(module: torch.nn.Module, _: Any, output: Any) -> Any:
        if not module.training or share == 0:
            return output
        values = output[0] if isinstance(output, tuple) else output
        keep = (torch.rand(len(values), 1, 1, device=values.device) >= share).to(values.dtype) / (1 - share)
        return (values * keep, *output[1:]) if isinstance(output, tuple) else values * keep

    return hook


def main() -> None:
    """Train, or go on training, and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"), help="checkpoint and cached pictures")
    parser.add_argument("--photographs", type=Path, default=FOLDER, help="folder of the real photographs")
    parser.add_argument("--output", type=Path, default=DEMO_FOLDER, help="folder of the finished model")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--rendered", type=int, default=120, help="pictures to draw of each scene")
    options = parser.parse_args()
    if not options.photographs.is_dir():
        raise SystemExit(f"no photographs at {options.photographs}: give --photographs")
    trainer = Trainer(
        real_pictures(options.photographs, options.work),
        rendered_pictures(options.rendered, options.work),
        Texts({name: captions(name) for name in CLASSES}, queries()),
        Recipe(epochs=options.epochs),
        options.work,
        compiled=shutil.which("c++") is not None,
    )
    trainer.run()
    trainer.export(options.output)
    print(f"wrote {options.output}; next: python -m training.evaluate")


if __name__ == "__main__":
    main()
