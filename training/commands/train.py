"""`captioner train`."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import click

from training.captioner import checkpoint
from training.captioner.checkpoint import CONFIG
from training.commands import configuration
from training.commands.answers import answer, json_option, say
from training.commands.options import (
    CACHE,
    CHECKPOINT,
    FILE,
    Source,
    cache_option,
    device_option,
    example,
    source_options,
)
from training.commands.progress import TrainingBar, only_first_process_prints
from training.commands.writing import Output
from training.config import ARCHITECTURES, DecoderConfig, EncoderConfig
from training.runtime.console import counted

if TYPE_CHECKING:
    from training.data.manifest import Row

STARTER_SCENES = 1800
STARTER_SEED = 1

_OWN = ("encoder", "decoder", "transform", "decoding")
"""Parts of the configuration that --start-from takes from the checkpoint."""


def _choices(config: type, name: str) -> click.Choice[str]:
    return click.Choice(get_args(get_type_hints(config)[name]))


@click.command(
    epilog=example(
        "captioner train --dataset flickr8k --data-dir flickr8k --out checkpoint",
        "captioner train --scenes --out scenes",
        "captioner train --manifest manifest.jsonl --config recipe.json --set decoder.hidden=1024 --out checkpoint",
        "captioner train --manifest manifest.jsonl --start-from starter --out checkpoint",
        "captioner train --scenes --start-from scenes --epochs 0 --self-critical-epochs 6 --out better",
        "torchrun --nproc-per-node 4 -m training.cli train --dataset coco2017 --data-dir coco --out checkpoint",
    )
)
@source_options
@click.option("--scenes", is_flag=True, help="Generated scenes, drawn into --data-dir, and a small captioner.")
@click.option("--out", type=Output(folder=True), required=True, help="Folder of the checkpoint.")
@click.option(
    "--start-from",
    type=CHECKPOINT,
    help="A checkpoint to train further, with its encoder and decoder; `starter` comes with the project.",
)
@click.option("--encoder", help="A CNN of torchvision or timm [tf_efficientnet_lite2; with --scenes small_cnn].")
@click.option(
    "--encoder-weights",
    help="imagenet (installed for tf_efficientnet_lite2, else downloaded), the name of others of torchvision's such as "
    "IMAGENET1K_V1, a file, or none [imagenet; of small_cnn none].",
)
@click.option(
    "--encoder-trained",
    type=_choices(EncoderConfig, "trained"),
    help="How much of the CNN learns too [none; with --encoder-weights none all].",
)
@click.option("--frozen-epochs", type=int, help="Epochs of the decoder alone, before the CNN learns too [0].")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), help="The decoder [two_layer_attention].")
@click.option("--cell", type=_choices(DecoderConfig, "cell"), help="The decoder's recurrent cells [lstm].")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--learning-rate", type=float)
@click.option("--self-critical-epochs", type=int, help="Epochs of self-critical training on CIDEr-D at the end [0].")
@click.option("--seed", type=int)
@click.option("--config", "config_file", type=FILE, help="Values of the configuration as JSON; options go before it.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any value of the configuration, such as decoder.hidden=1024; goes before all others. May be repeated.",
)
@json_option
@click.option("--tensorboard", type=Output(folder=True), help="Curves and sample captions go to this folder.")
@cache_option
@device_option
def train(
    source: Source,
    scenes: bool,
    out: Path,
    start_from: Path | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    tensorboard: Path | None,
    cache_dir: Path | None,
    device: str,
    **options: Any,
) -> None:
    """Train a captioner from captioned images.

    The checkpoint goes to --out. Rows of the split train are learned, those of dev choose the best epoch. A training
    that was stopped is resumed after its last saved epoch when the same command is run again. Under torchrun several
    processes share every batch.
    """
    given = [
        configuration.nested(_PATHS.get(name, name), value) for name, value in options.items() if value is not None
    ]
    asked = configuration.merged(*given, *map(configuration.from_setting, settings))
    if start_from and (kept := [name for name in _OWN if name in asked]):
        raise click.UsageError(f"--start-from keeps the checkpoint's own {kept[0]}: leave out what would change it.")
    if scenes and (source.dataset or source.manifest):
        raise click.UsageError("--scenes draws its own images: leave out --dataset and --manifest.")
    if _holds_other_things(out):
        raise click.UsageError(f"--out {out} holds other things, which a checkpoint would replace: name a new folder.")
    if tensorboard and not find_spec("tensorboard"):
        raise click.ClickException("--tensorboard needs a package that is not here: pip install tensorboard.")
    in_file = configuration.from_file(config_file) if config_file else {}
    if not scenes:
        source.check()
    own = checkpoint.encoder_of(start_from) if start_from else None
    configured = partial(configuration.complete, configuration.merged(in_file, asked), scenes=scenes, start_from=own)
    config = configured()

    from training.learning.elastic.launch import train as fit
    from training.networks import weights
    from training.runtime.device import choose

    choose(device)
    if start_from is None:
        weights.check(config.encoder)
    champion = checkpoint.load(start_from, "cpu") if start_from else None
    rows: list[Row] = []
    if not scenes:
        rows = source.rows(None)
        config = configured(rows)
    with only_first_process_prints():
        if scenes:
            folder = source.data_dir or out.with_name(f"{out.name}-scenes")
            rows = Source(None, None, _drawn(folder, source.limit or STARTER_SCENES), None).rows(None)
            cache_dir = cache_dir or folder / "cache"
        with TrainingBar() as bar:
            fit(
                rows,
                out,
                config,
                start_from=champion,
                cache_dir=cache_dir or CACHE,
                progress=bar.update,
                device=device,
                tensorboard=tensorboard,
            )
        record = checkpoint.read_info(out)["extra"]
        answer(
            {"checkpoint": str(out), "images": record["images"], "seconds": record["seconds"]},
            f"The checkpoint is in {out}: {counted(record['images'], 'image')}, {record['seconds']:.0f} s.",
        )


_PATHS = {
    "encoder": "encoder.name",
    "encoder_weights": "encoder.weights",
    "encoder_trained": "encoder.trained",
    "architecture": "decoder.architecture",
    "cell": "decoder.cell",
}
"""Options that do not have the name of their value in the configuration."""


def _holds_other_things(out: Path) -> bool:
    """Whether the folder holds something other than a checkpoint."""
    here = Path.cwd()
    if out.resolve() in {here, *here.parents}:
        return True
    return out.exists() and not (out / CONFIG).exists() and any(out.iterdir())


def _drawn(folder: Path, count: int) -> Path:
    """Draw `count` scenes into the folder; returns their manifest."""
    from torch import distributed

    from training.data.scenes import write
    from training.errors import DataError

    if distributed.is_torchelastic_launched():
        raise click.UsageError("--scenes takes one process a minute: start it without torchrun.")
    say(f"Drawing {counted(count, 'scene')} into {folder}.")
    try:
        return write(folder, count, STARTER_SEED)
    except OSError as error:
        raise DataError(f"The scenes cannot be drawn into {folder}: {error.strerror or error}.") from error
