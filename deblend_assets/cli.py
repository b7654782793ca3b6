"""The command `deblend_assets`: what a user does besides materialising assets.

`measure` and `export` need no Dagster instance; `tiles` registers tiles in one, `results` reads its history. Each topic
imports what it needs when it runs, so that `--help` answers at once.

Exit status: 0 done; 1 refused or failed, with one line on standard error, or, of `results`, a check of severity ERROR
failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deblend_assets import __version__
from deblend_assets.errors import DeblendError, UsageError

if TYPE_CHECKING:
    import dagster as dg

    from deblend_assets.automation.tile_registry import TileRow
    from deblend_assets.science.measuring.measure import Model
    from deblend_assets.settings import Profile
    from deblend_assets.stores.project import ProjectStore
    from deblend_assets.stores.stamps import Stamps

INTERRUPTED = 128 + signal.SIGINT  # as shells say it


def add(instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
    """Register tiles; prints which of them are new."""
    from deblend_assets.automation.tile_registry import add_tiles

    new = add_tiles(instance, store.folder, names)
    for name in dict.fromkeys(names):
        print(f"{name}: {'registered' if name in new else 'was registered already'}")


def retire(instance: dg.DagsterInstance, store: ProjectStore, names: Sequence[str]) -> None:
    """Retire tiles."""
    from deblend_assets.automation.tile_registry import retire_tiles
    from deblend_assets.stores.des import DesStore

    for name in retire_tiles(instance, store.folder, names):
        data = DesStore(store).tile(name).folder
        print(f"{name}: retired" + (f"; its data stay under {data}" if data.exists() else ""))


def show(instance: dg.DagsterInstance, store: ProjectStore) -> None:
    """Print a table of the tiles and the version of the present model."""
    from deblend_assets.assets.keys import TILE_ASSETS
    from deblend_assets.automation.tile_registry import list_tiles

    try:
        model, present = store.sky_model_version(), ""
    except DeblendError as error:
        model, present = None, str(error)
    rows = list_tiles(instance, store.folder, TILE_ASSETS["des_evaluation"], model, TILE_ASSETS.values())
    cells = [("tile", "registered", "evaluated", "model", "state"), *(_cells(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    for line in cells if rows else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if not rows:
        print("no tiles; `deblend_assets tiles add NAME` registers one")
    for row in rows:
        print(*(f"check failed: {line}\n" for line in row.failed_checks), sep="", end="")
    print(f"present model: {model or 'none'}" + (f" ({present})" if present else ""))


def _cells(row: TileRow) -> tuple[str, ...]:
    at = datetime.fromtimestamp(row.evaluation.at, UTC).strftime("%Y-%m-%d %H:%M UTC") if row.evaluation else "-"
    model = (row.evaluation.model_version if row.evaluation else None) or "-"
    return (row.name, "yes" if row.registered else "no", at, model, row.state)


def measure(given: argparse.Namespace, profile: Profile) -> None:
    """Measure stamps, or galaxies of images, with the profile's trained model or the shipped one."""
    _require_one_source(given)
    from deblend_assets.science.deblender.network import BATCH
    from deblend_assets.settings import storage_root
    from deblend_assets.steps.measuring.model import available_model
    from deblend_assets.steps.measuring.run import measure_stamps
    from deblend_assets.stores.project import ProjectStore

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    store = ProjectStore(storage_root(), profile)
    with _device(given.device) as device:
        model = available_model(store, device, log)
        done = measure_stamps(
            _stamps(given, model, log),
            model,
            given.out.resolve(),
            images=given.images,
            batch=given.batch or BATCH,
            replace=given.replace,
            log=log,
        )
    counts = f"{done.stamps:,} stamps, {done.flagged:,} flagged"
    print(f"{given.out.resolve()}: {counts}, {done.rate:,.0f} stamps/s on {device}")


def _require_one_source(given: argparse.Namespace) -> None:
    """UsageError unless the arguments name stamps, or else one image a band and positions."""
    images, where = given.image or [], "deblend_assets measure"
    if (given.stamps is not None, bool(images), given.positions is not None) not in (
        (True, False, False),
        (False, True, True),
    ):
        raise UsageError(
            "neither stamps alone nor images with positions",
            where=where,
            remedy="name STAMPS, or --image BAND=PATH for each band and --positions TABLE",
        )
    twice = sorted({band for n, (band, _) in enumerate(images) if band in dict(images[:n])})
    if twice:
        raise UsageError(f"more than one --image in {', '.join(twice)}", where=where, remedy="name one image a band")


def _stamps(given: argparse.Namespace, model: Model, log: Callable[[str], None]) -> Stamps:
    """The stamps that the arguments name: ready-cut, or to be cut from images."""
    from deblend_assets.stores.image_stamps import ImageStamps
    from deblend_assets.stores.stamps import open_stamps

    if given.stamps is not None:
        return open_stamps(given.stamps.resolve())
    return ImageStamps(dict(given.image), given.positions.resolve(), model.frame, log)


@contextlib.contextmanager
def _device(wanted: str) -> Iterator[str]:
    """The torch device to measure on; a GPU is locked."""
    from deblend_assets.resources.devices import ComputeDevices

    if wanted == "cpu":
        yield "cpu"
    else:
        with ComputeDevices(require_cuda=wanted == "cuda").allocate("deblend_assets measure") as lease:
            yield lease.torch_device


def export(given: argparse.Namespace, profile: Profile) -> None:
    """Write the profile's trained model as a `torch.export` program."""
    from deblend_assets.settings import storage_root
    from deblend_assets.steps.measuring.export import export_model
    from deblend_assets.steps.measuring.model import available_model
    from deblend_assets.stores.project import ProjectStore

    store, path = ProjectStore(storage_root(), profile), given.out.resolve()
    model = available_model(store, "cpu", lambda line: print(line, file=sys.stderr))
    card = export_model(model, path, replace=given.replace)
    print(
        f"{path}: model {card['model_version']}, {card['bytes'] / 2**20:.1f} MiB; {path.name}.json says how to use it"
    )


def tiles(given: argparse.Namespace, profile: Profile) -> None:
    """Add, list or retire tiles."""
    from deblend_assets.automation.instance import open_instance
    from deblend_assets.settings import storage_root
    from deblend_assets.stores.project import ProjectStore

    with open_instance() as instance:
        store = ProjectStore(storage_root(), profile)
        if given.action == "list":
            show(instance, store)
        else:
            {"add": add, "retire": retire}[given.action](instance, store, given.names)


def results(given: argparse.Namespace, profile: Profile) -> int:
    """Print key figures, where the reports lie, and failed checks; 1 if one of severity ERROR is among them."""
    from deblend_assets.assets.keys import TILE_ASSETS
    from deblend_assets.automation.checks import errors_among, failed_checks
    from deblend_assets.automation.instance import open_instance
    from deblend_assets.automation.outcome import check_lines
    from deblend_assets.automation.results import UI, evaluated_tiles, results_of, tile_results
    from deblend_assets.automation.tile_registry import evaluated_state
    from deblend_assets.science.des.tiles import tile_name
    from deblend_assets.settings import storage_root
    from deblend_assets.stores.project import ProjectStore

    store = ProjectStore(storage_root(), profile)
    with open_instance() as instance:
        groups, lines = results_of(store, given.what)
        assets = [key for key in instance.all_asset_keys() if key.path[0] in groups]
        failed: list[tuple[dg.AssetCheckEvaluation, str | None]] = []
        failed += [(check, None) for check in failed_checks(instance, sorted(assets))]
        shown = evaluated_tiles(store) if given.what in ("des", "demo") else []
        for tile in shown if groups else [tile_name(given.what)]:
            of_tile = failed_checks(instance, TILE_ASSETS.values(), tile)
            state = evaluated_state("evaluated", len(errors_among(of_tile)))
            lines += [*tile_results(store, tile), f"  state:   {state}"]
            failed += [(check, tile) for check in of_tile]
    print("", *lines, *([UI] if given.what == "demo" else []), "", sep="\n", flush=True)
    print(*check_lines(failed), sep="\n", end="\n" if failed else "", file=sys.stderr)
    return int(bool(errors_among([check for check, _ in failed])))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def _recipe(text: str) -> str:
    """Of releases that had a second model, for DES."""
    if text != "training":
        raise argparse.ArgumentTypeError(
            f"{text!r} is gone: the model for every sky measures DES tiles (deblend_assets tiles add, make tile); "
            "leave the option out to measure stamps of LSST"
        )
    return text


def _band_image(text: str) -> tuple[str, str]:
    band, separator, path = text.partition("=")
    if not (band and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not BAND=PATH or BAND=PATH[EXT]")
    return band, str(Path(path).resolve())


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = argparse.ArgumentParser("deblend_assets", description="Galaxy deblending and shapes as Dagster assets.")
    command.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    topics = command.add_subparsers(dest="topic", required=True, metavar="TOPIC")
    registry = topics.add_parser(
        "tiles", help="the DES tiles that are evaluated", description="Add, list, retire tiles."
    )
    actions = registry.add_subparsers(dest="action", required=True, metavar="add | list | retire")
    added = actions.add_parser("add", help="register tiles; the running daemon makes their assets")
    retired = actions.add_parser("retire", help="take tiles out of the registry; their data and history stay")
    for action in (added, retired):
        action.add_argument("names", nargs="+", metavar="NAME", help="a tile, such as DES0458-4957")
    actions.add_parser("list", help="every tile, its last evaluation and its state")

    found = topics.add_parser(
        "results",
        help="key figures, where the reports lie, and checks that failed",
        description="What was found, where the reports lie, and which checks failed; status 1 if one that is an error.",
    )
    found.add_argument(
        "what",
        nargs="?",
        default="demo",
        metavar="lsst | des | demo | worlds | baseline | referee | TILE",
        help="of which target of make (default: demo, which is lsst and des), or of which tile",
    )

    measuring = topics.add_parser(
        "measure",
        help="deblend and measure stamps with the trained model",
        description="A catalogue of shapes and fluxes of any number of stamps; see docs/measuring.md.",
    )
    measuring.add_argument(
        "stamps", type=Path, nargs="?", metavar="STAMPS", help="a Zarr array, or a folder of .npy or .fits"
    )
    measuring.add_argument(
        "--image",
        type=_band_image,
        action="append",
        metavar="BAND=PATH[EXT]",
        help="in the place of STAMPS, once a band; EXT: number or name of an extension",
    )
    measuring.add_argument("--positions", type=Path, metavar="TABLE", help="with --image: ra and dec, or x and y")
    measuring.add_argument("--batch", type=_positive, metavar="N", help="stamps computed at a time")
    measuring.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a free GPU or the CPU"
    )
    measuring.add_argument("--images", action="store_true", help="keep the deblended stamps too, as a Zarr array")
    exporting = topics.add_parser(
        "export",
        help="write the trained model as a torch.export program",
        description="One file that torch alone can run, electrons in, electrons out; see docs/measuring.md.",
    )
    for topic, what in ((measuring, "FOLDER"), (exporting, "FILE")):
        topic.add_argument(
            "--out", type=Path, required=True, metavar=what, help="where; it appears whole or not at all"
        )
        topic.add_argument("--recipe", type=_recipe, help=argparse.SUPPRESS)
        topic.add_argument("--replace", action="store_true", help="write over what this command made there before")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (none: the command line's) say; the exit status, with one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    given = parser().parse_args(arguments)
    command = f"deblend_assets {given.topic}"
    try:
        from deblend_assets.settings import load_profile

        topics = {"tiles": tiles, "results": results, "measure": measure, "export": export}
        status = topics[given.topic](given, load_profile())
        sys.stdout.flush()
    except DeblendError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # Whoever reads our output, as `head` does, has enough; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        what, where = error.strerror or str(error), str(error.filename or command)
        remedy = "see to what is named, then run the same command again"
        print(DeblendError(what, where=where, remedy=remedy), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(DeblendError("interrupted", where=command, remedy="run the same command again"), file=sys.stderr)
        return INTERRUPTED
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
