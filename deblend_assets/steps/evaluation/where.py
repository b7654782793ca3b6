"""Says where an evaluation's report lies and how to look at the lineage: the last lines of `make demo`."""

from __future__ import annotations

import sys

from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.project import ProjectStore, read_evaluation


def main(name: str = "evaluation") -> None:
    """Print the key figures, the report's path and the command of the UI."""
    folder = ProjectStore(storage_root(), load_profile()).report_folder(name)
    evaluation = read_evaluation(folder / "numbers.json")
    regressor = evaluation["estimators"]["regressor"]
    slope1, slope2 = (regressor[component]["slope"]["value"] for component in ("e1", "e2"))
    similarity = {
        kind: evaluation["similarity"][kind]["images"]["stage2"]["mean"]["value"] for kind in ("ssim", "cosine")
    }
    print(
        f"\n{evaluation['scenes']:,} held-out blends: SSIM {similarity['ssim']:.3f}, cosine {similarity['cosine']:.3f} "
        f"(Eq. 9 space); regressor: RMS of distortion e {regressor['both']['rms']['value']:.4f} a component "
        f"(label scatter {evaluation['label_scatter']['both']['value']:.4f}), slopes e1 {slope1:.2f}, "
        f"e2 {slope2:.2f}\n"
        f"report:  {folder / 'report.html'}\n"
        f"lineage: make ui, then http://127.0.0.1:3000/asset-groups\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
