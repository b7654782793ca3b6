"""Says what the evaluated tiles gave and where their reports lie: the last lines of `make demo`."""

from __future__ import annotations

from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.folders import matching
from deblend_assets.stores.project import ProjectStore, read_evaluation


def main() -> None:
    """Print the key figures and the report's path of every evaluated tile."""
    des = DesStore(ProjectStore(storage_root(), load_profile().des_leg))
    for numbers in matching(des.tiles_folder, "*/numbers.json"):
        evaluation = read_evaluation(numbers)
        shear, truth = evaluation["im3shape"]["shear"]["both"], evaluation["truth"]
        whose = "simulated tile" if truth is not None else "tile"
        print(
            f"{whose} {numbers.parent.name}: {evaluation['matched']:,} galaxies, slope of our g on im3shape's "
            f"{_figure(shear['slope'])}, errors in variables {_figure(shear['eiv_slope'])}; "
            f"signs {evaluation['orientation']}"
        )
        if truth is not None:
            flux = ", ".join(f"{band} {_figure(truth['cutout_flux'][band]['ratio'])}" for band in evaluation["bands"])
            print(f"  against the truth: {_figure(truth['position']['median_total'])} arcsec off, light {flux}")
        print(f"  report:  {numbers.parent / 'report.html'}\n  shapes:  {numbers.parent / 'shape_catalog.fits'}\n")


def _figure(measure: dict[str, float | None]) -> str:
    value, error = measure["value"], measure["error"]
    return "–" if value is None or error is None else f"{value:.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
