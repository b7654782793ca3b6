"""The command `deblend_assets`: what a user does besides materialising assets.

`measure` and `export` need no Dagster instance; `tiles` and `fields` register partitions in one, `results` reads its
history. Each topic imports what it needs when it runs, so that `--help` answers at once.

Exit status: 0 done; 1 refused or failed, with one line on standard error, or, of `results`, a check of severity ERROR
failed; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblend_assets import __version__
from deblend_assets.errors import DeblendError, UsageError

if TYPE_CHECKING:
    import dagster as dg

    from deblend_assets.automation.registry_commands import Topic
    from deblend_assets.science.sky_shapes.model import SkyModel
    from deblend_assets.settings import Profile
    from deblend_assets.steps.measuring.run import MeasuredSet

INTERRUPTED = 128 + signal.SIGINT  # as shells say it


def measure(given: argparse.Namespace, profile: Profile) -> None:
    """Measure ready stamps, or a field of images."""
    _require_one_source(given)
    if given.meds:
        _measure_meds(given, profile)
    elif given.image or given.source.suffix == ".toml":
        _measure_field(given, profile)
    else:
        _measure_stamps(given, profile)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure_stamps(given: argparse.Namespace, profile: Profile) -> None:
    """With the model for every sky, as a field."""
    from deblend_assets.steps.measuring.ready import measure_stored
    from deblend_assets.stores.stamps import open_stamps

    model, version = _sky_model(profile)
    done = measure_stored(
        open_stamps(given.source.resolve()),
        model,
        version,
        given.out.resolve(),
        psf=_by_band(given, "psf"),
        zero_point=_by_band(given, "zero_point"),
        pixel_scale=given.pixel_scale,
        images=given.images,
        replace=given.replace,
        log=_log,
    )
    _say_measured(given, done)


def _measure_meds(given: argparse.Namespace, profile: Profile) -> None:
    """With the model for every sky, as a field."""
    from deblend_assets.steps.measuring.meds import measure_meds
    from deblend_assets.stores.meds import MedsStamps

    model, version = _sky_model(profile)
    done = measure_meds(
        MedsStamps({band: Path(path).expanduser() for band, path in given.meds}),
        model,
        version,
        given.out.resolve(),
        images=given.images,
        replace=given.replace,
        log=_log,
    )
    _say_measured(given, done)


def _sky_model(profile: Profile) -> tuple[SkyModel, str]:
    """The model for every sky, trained or shipped, and its fingerprint."""
    from deblend_assets.settings import storage_root
    from deblend_assets.steps.measuring.model import available_sky_model
    from deblend_assets.stores.project import ProjectStore

    store = ProjectStore(storage_root(), profile)
    return available_sky_model(store), store.sky_model_version()


def _say_measured(given: argparse.Namespace, done: MeasuredSet) -> None:
    counts = f"{done.stamps:,} stamps measured, {done.good:,} good for shapes (flags == 0)"
    files = [given.out / name for name in ("measurements.fits", "measurements.parquet")]
    written = ", ".join(str(path) for path in files if path.is_file())  # FITS up to a number of rows
    print(f"{counts}, {done.rate:,.0f} stamps/s", written, sep="\n")


def _measure_field(given: argparse.Namespace, profile: Profile) -> None:
    """With the model for every sky: the profile's trained one, or the shipped one."""
    from deblend_assets.resources.fork_server import FIELD_MODULES, number_of_processes, start_server

    if number_of_processes(given.processes) > 1:
        start_server(FIELD_MODULES)  # before this process's own imports
    from deblend_assets.settings import storage_root
    from deblend_assets.steps.fields.command import measure_files
    from deblend_assets.stores.field_files import field_file_of_arguments, read_field_file
    from deblend_assets.stores.project import ProjectStore

    start = time.monotonic()
    if given.image:
        by_band: dict[str, Any] = {key if key in ("rms", "lost") else f"{key}s": _by_band(given, key) for key in _MAPS}
        settings = field_file_of_arguments(_by_band(given, "image"), **by_band, name=given.out.name)
    else:
        settings = read_field_file(given.source)
    if given.subtract_background:
        settings = settings.model_copy(update={"background": "subtract"})
    if given.regions:
        regions = (*settings.regions, *(str(path.expanduser().absolute()) for path in given.regions))
        settings = settings.model_copy(update={"regions": regions})
    if given.pixel_scale:
        settings = settings.model_copy(update={"pixel_scale": given.pixel_scale})
    done = measure_files(
        settings,
        ProjectStore(storage_root(), profile),
        given.out.resolve(),
        positions=given.positions,
        origin=given.origin,
        processes=given.processes,
        inject=given.inject,
        replace=given.replace,
        images=given.images,
        log=_log,
    )
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    files = ", ".join(str(given.out / path.name) for path in done.files)
    print(*done.lines, f"{files} ({minutes} min {seconds:02d} s)", sep="\n")


def response(given: argparse.Namespace, profile: Profile) -> None:
    """The five sheared catalogues of a field and their response."""
    from deblend_assets.settings import storage_root
    from deblend_assets.steps.metadetection.command import respond_files
    from deblend_assets.stores.field_files import read_field_file
    from deblend_assets.stores.project import ProjectStore

    found, files = respond_files(
        read_field_file(given.source),
        ProjectStore(storage_root(), profile),
        given.out.resolve(),
        given.select,
        estimator=given.estimator,
        least_snr=given.least_snr,
        processes=given.processes,
        replace=given.replace,
        log=_log,
    )
    print(*found.lines(), ", ".join(map(str, files)), sep="\n")


_MAPS = ("weight", "variance", "rms", "bmask", "lost", "psf", "zero_point")
# Of images that ready stamps have too.
_OF_STAMPS = ("psf", "zero_point", "pixel_scale")


def _by_band(given: argparse.Namespace, key: str) -> dict[str, Any]:
    return dict(getattr(given, key) or [])


def _require_one_source(given: argparse.Namespace) -> None:
    """UsageError unless the arguments name one source, and what goes with it."""
    where, images, meds = "deblend_assets measure", given.image or [], given.meds or []
    sources = (given.source is not None) + bool(images) + bool(meds)
    if sources != 1:
        raise UsageError(
            "names " + ("more than one source" if sources else "no source"),
            where=where,
            remedy="name a field.toml, or --image BAND=PATH for each band, or stamps (Zarr or a folder), or "
            "--meds BAND=PATH for each band",
        )
    stamps = not images and not meds and given.source.suffix != ".toml"
    for key in ("image", "meds", *_MAPS):
        listed = [band for band, _ in getattr(given, key) or []]
        option = f"--{key.replace('_', '-')}"
        twice = sorted({band for band in listed if listed.count(band) > 1})
        if twice:
            raise UsageError(f"more than one {option} in {', '.join(twice)}", where=where, remedy="name one a band")
        without = [band for band in listed if band not in dict(images)]
        if without and key != "meds" and not (stamps and key in _OF_STAMPS):
            raise UsageError(
                f"{option} of {', '.join(without)} without an --image of that band",
                where=where,
                remedy="name its image, or write both into the field.toml",
            )
    if given.origin is not None and not given.positions:
        raise UsageError("--origin is of --positions, which are not given", where=where, remedy="leave it out")
    if meds or stamps:
        for key in ("positions", "regions", "subtract_background", "pixel_scale", "processes", "origin", "inject"):
            if getattr(given, key) and not (stamps and key in _OF_STAMPS):
                raise UsageError(
                    f"--{key.replace('_', '-')} is of images, not of stamps", where=where, remedy="leave it out"
                )


def export(given: argparse.Namespace, profile: Profile) -> None:
    """Write the model for every sky as a `torch.export` program."""
    from deblend_assets.steps.measuring.export import export_model

    path = given.out.resolve()
    card = export_model(*_sky_model(profile), path, replace=given.replace)
    print(
        f"{path}: model {card['model_version']}, {card['bytes'] / 2**20:.1f} MiB; {path.name}.json says how to use it"
    )


def tiles(given: argparse.Namespace, profile: Profile) -> None:
    """Add, list or retire tiles."""
    from deblend_assets.assets.keys import TILE_ASSETS
    from deblend_assets.automation.registries import TILE_REGISTRY
    from deblend_assets.automation.registry_commands import Topic
    from deblend_assets.stores.des import DesStore

    _registry(
        Topic(TILE_REGISTRY, TILE_ASSETS.values(), lambda store, name: DesStore(store).tile(name).folder, "NAME"),
        given,
        profile,
    )


def fields(given: argparse.Namespace, profile: Profile) -> None:
    """Add, list or retire fields."""
    from deblend_assets.assets.keys import FIELD_ASSETS
    from deblend_assets.automation.field_commands import field_topic

    _registry(field_topic(FIELD_ASSETS.values()), given, profile)


def _registry(topic: Topic, given: argparse.Namespace, profile: Profile) -> None:
    """Do what the arguments say to a registry."""
    from deblend_assets.automation.instance import open_instance
    from deblend_assets.settings import storage_root
    from deblend_assets.stores.project import ProjectStore

    with open_instance() as instance:
        store = ProjectStore(storage_root(), profile)
        if given.action == "list":
            topic.show(instance, store)
        else:
            {"add": topic.add, "retire": topic.retire}[given.action](instance, store, given.names)


def results(given: argparse.Namespace, profile: Profile) -> int:
    """Print key figures, where the reports lie, and failed checks; 1 if one of severity ERROR is among them."""
    from deblend_assets.assets.keys import FIELD_ASSETS, TILE_ASSETS, TILE_FIELD_ASSETS
    from deblend_assets.automation import results as told
    from deblend_assets.automation.checks import errors_among, failed_checks
    from deblend_assets.automation.instance import open_instance
    from deblend_assets.automation.outcome import check_lines
    from deblend_assets.automation.registry_rows import evaluated_state
    from deblend_assets.settings import storage_root
    from deblend_assets.stores.project import ProjectStore

    store = ProjectStore(storage_root(), profile)
    with open_instance() as instance:
        groups, lines = told.results_of(store, given.what)
        assets = [key for key in instance.all_asset_keys() if key.path[0] in groups]
        failed: list[tuple[dg.AssetCheckEvaluation, str | None]] = []
        failed += [(check, None) for check in failed_checks(instance, sorted(assets))]
        tiles, fields = told.tiles_and_fields(store, given.what, whole=bool(groups))
        for names, keys, lines_of in (
            (tiles, TILE_ASSETS, told.tile_results),
            (fields, FIELD_ASSETS, told.field_results),
            (told.compared_fields(store, fields), TILE_FIELD_ASSETS, told.comparison_results),
        ):
            for name in names:
                found = failed_checks(instance, keys.values(), name)
                state = evaluated_state("evaluated", len(errors_among(found)))
                lines += [*lines_of(store, name), f"  state:   {state}"]
                failed += [(check, name) for check in found]
    print("", *lines, *([told.UI] if given.what == "demo" else []), "", sep="\n", flush=True)
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


def _of_band(text: str) -> tuple[str, str]:
    band, separator, value = text.partition("=")
    if not (band and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not BAND=VALUE, such as r=coadd_r.fits or r=coadd_r.fits[SCI]")
    return band, value


def _psf_of_band(text: str) -> tuple[str, Any]:
    band, value = _of_band(text)
    if not value.lstrip().startswith("{"):
        return band, value
    try:
        return band, tomllib.loads(f"psf = {value}")["psf"]
    except tomllib.TOMLDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not BAND={{fwhm = 0.8, beta = 3.0}}") from error


def _bits_of_band(text: str) -> tuple[str, list[str | int]]:
    band, value = _of_band(text)
    bits = [bit.strip() for bit in value.split(",")]
    if not all(bits):
        raise argparse.ArgumentTypeError(f"{text!r} is not BAND=BIT,BIT, such as r=SAT,CR or r=1,3")
    return band, [int(bit) if bit.isdecimal() else bit for bit in bits]


def _zero_point_of_band(text: str) -> tuple[str, float]:
    band, value = _of_band(text)
    try:
        return band, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not BAND=MAGNITUDE") from error


def _add_measure(topics: Any) -> argparse.ArgumentParser:
    measuring: argparse.ArgumentParser = topics.add_parser(
        "measure",
        help="detect, deblend and measure the galaxies of images, or measure stamps",
        description="A catalogue of shapes and fluxes of a field of images (docs/measuring_images.md), or of ready "
        "stamps (docs/measuring.md).",
    )
    measuring.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="FIELD.toml | STAMPS",
        help="a field's images, or stamps: Zarr, or a folder of .npy or .fits; --psf, --zero-point and --pixel-scale "
        "are of both",
    )
    measuring.add_argument(
        "--images",
        action="store_true",
        help="write images too: of a field its model and residual, of stamps the deblended ones, as a Zarr array",
    )
    images = measuring.add_argument_group("images, in the place of FIELD.toml, each once a band")
    for option, what, text in (
        ("--image", "PATH[EXT]", "the image; EXT: number or name of an extension"),
        ("--weight", "PATH[EXT]", "its inverse variance"),
        ("--variance", "PATH[EXT]", "instead: its variance"),
        ("--rms", "PATH[EXT]", "instead: its standard deviation"),
        ("--bmask", "PATH[EXT]", "its mask"),
        (
            "--psf",
            "PATH",
            "its PSF: PSFEx, Piff, a FITS image or cube, '{fwhm = 0.8, beta = 3.0}', or the word measure",
        ),
    ):
        of_band = _psf_of_band if option == "--psf" else _of_band
        images.add_argument(option, type=of_band, action="append", metavar=f"BAND={what}", help=text)
    images.add_argument(
        "--lost",
        type=_bits_of_band,
        action="append",
        metavar="BAND=BIT,BIT",
        help="names, or numbers from 0, of the mask's bits that lose a pixel (default: by survey)",
    )
    images.add_argument(
        "--zero-point",
        type=_zero_point_of_band,
        action="append",
        metavar="BAND=MAG",
        help="AB magnitude of one image unit, where the header does not say",
    )
    images.add_argument(
        "--regions",
        type=Path,
        action="append",
        metavar="FILE",
        help="DS9 regions (.reg) or a HealSparse map whose pixels are lost in every band; beside a field.toml too",
    )
    images.add_argument("--pixel-scale", type=float, metavar="ARCSEC", help="of images without a WCS")
    images.add_argument("--subtract-background", action="store_true", help="take SEP's background off, in two passes")
    images.add_argument("--positions", metavar="TABLE", help="measure these positions in the place of detections")
    images.add_argument("--origin", type=int, choices=(0, 1), help="of x and y in TABLE: what the first pixel is")
    images.add_argument("--processes", type=_positive, default=0, metavar="N", help="that work (default: one a core)")
    images.add_argument(
        "--inject",
        type=_positive,
        default=0,
        metavar="N",
        help="then put N galaxies of known truth into the images and report how they come back",
    )
    ready = measuring.add_argument_group("stamps")
    ready.add_argument(
        "--meds",
        type=_of_band,
        action="append",
        metavar="BAND=PATH",
        help="coadd stamps of a MEDS file, once a band",
    )
    return measuring


def _add_response(topics: Any) -> argparse.ArgumentParser:
    responding: argparse.ArgumentParser = topics.add_parser(
        "response",
        help="response of a field's mean shape to shear, detection included",
        description="Metadetection of a field: its catalogue under five shears, for TXPipe too, and the response of a "
        "selection (docs/metadetection.md).",
    )
    responding.add_argument("source", type=Path, metavar="FIELD.toml", help="a field's images")
    responding.add_argument(
        "--select",
        default="unmasked",
        metavar="EXPRESSION",
        help="of the catalogue's columns (default: %(default)s, no flag MASKED, SATURATED or EDGE)",
    )
    responding.add_argument("--estimator", default="g1", metavar="COLUMN", help="first component of the shape")
    responding.add_argument(
        "--least-snr", type=float, default=5.0, metavar="SNR", help="of a detection that is measured (default: 5)"
    )
    responding.add_argument(
        "--processes", type=_positive, default=0, metavar="N", help="that work (default: one a core)"
    )
    return responding


def parser() -> argparse.ArgumentParser:
    """The parser of the arguments."""
    command = argparse.ArgumentParser("deblend_assets", description="Galaxy deblending and shapes as Dagster assets.")
    command.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    topics = command.add_subparsers(dest="topic", required=True, metavar="TOPIC")
    _add_registry(topics, "tile", "the DES tiles that are evaluated", "NAME", "a tile, such as DES0458-4957")
    _add_registry(topics, "field", "your own fields in the lineage", "PATH", "a field.toml")

    found = topics.add_parser(
        "results",
        help="key figures, where the reports lie, and checks that failed",
        description="What was found, where the reports lie, and which checks failed; status 1 if one that is an error.",
    )
    found.add_argument(
        "what",
        nargs="?",
        default="demo",
        metavar="lsst | des | demo | worlds | baseline | referee | TILE | FIELD",
        help="of which target of make (default: demo, which is lsst, des and a field), or of which tile or field",
    )

    measuring = _add_measure(topics)
    responding = _add_response(topics)
    exporting = topics.add_parser(
        "export",
        help="write the model for every sky as a torch.export program",
        description="One file that torch alone can run, given PSF, noise, mask and neighbours; see docs/measuring.md.",
    )
    for topic, what in ((measuring, "FOLDER"), (responding, "FOLDER"), (exporting, "FILE")):
        topic.add_argument(
            "--out", type=Path, required=True, metavar=what, help="where; it appears whole or not at all"
        )
        topic.add_argument("--recipe", type=_recipe, help=argparse.SUPPRESS)
        topic.add_argument("--replace", action="store_true", help="write over what this command made there before")
    return command


def _add_registry(topics: Any, noun: str, words: str, added: str, what: str) -> None:
    """The topic of a registry.

    Args:
        topics: takes its parser.
        noun: of a partition.
        words: for the list of topics.
        added: what `add` takes, as its usage names it, and `what` it is.
    """
    topic = topics.add_parser(f"{noun}s", help=words, description=f"Add, list, retire {noun}s.")
    actions = topic.add_subparsers(dest="action", required=True, metavar="add | list | retire")
    add = actions.add_parser("add", help=f"register {noun}s; the running daemon makes their assets")
    add.add_argument("names", nargs="+", metavar=added, help=what)
    retire = actions.add_parser("retire", help=f"take {noun}s out of the registry; their data and history stay")
    retire.add_argument("names", nargs="+", metavar="NAME", help=f"a registered {noun}")
    actions.add_parser("list", help=f"every {noun}, its last evaluation and its state")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments (none: the command line's) say; the exit status, with one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    given = parser().parse_args(arguments)
    command = f"deblend_assets {given.topic}"
    try:
        from deblend_assets.settings import load_profile

        topics = {
            "tiles": tiles,
            "fields": fields,
            "results": results,
            "measure": measure,
            "response": response,
            "export": export,
        }
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
