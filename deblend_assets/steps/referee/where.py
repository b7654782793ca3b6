"""Says what the referee found and where its page lies: the last lines of `make referee`."""

from __future__ import annotations

from deblend_assets.science.evaluation.shear import METHODS
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.files import read_json
from deblend_assets.stores.project import ProjectStore, read_evaluation


def main() -> None:
    """Print the key figures and the page's path."""
    store = ProjectStore(storage_root(), load_profile())
    peers = read_json(store.report_folder("peer_comparison") / "numbers.json")["headline"]
    shear = read_evaluation(store.report_folder("shear_calibration") / "numbers.json")
    errors = {n.removeprefix("rms_e_"): v for n, v in peers.items() if n.startswith("rms_e_") and "_error" not in n}
    print(f"\n{peers['scenes']:,} test blends, RMS error of the observed distortion e a component:")
    for method, value in sorted(errors.items(), key=lambda item: item[1]):
        print(f"  {value:.4f}  {method}")
    found = shear["image_response"]["calibrated"]
    biases = ", ".join(f"{n} {found[n]['value']:+.5f} ± {found[n]['error']:.5f}" for n in ("m1", "m2", "c1", "c2"))
    print(f"{METHODS['posterior']}, by its own images' response, {shear['n']['blended']:,} scenes: {biases}")
    print(f"report:  {store.report_folder('referee') / 'report.html'}\n")


if __name__ == "__main__":
    main()
