"""`idbench plan --simulate CAMPAIGN.yaml`: what a campaign will cost, before anything is run."""

import argparse
import dataclasses
import json
from pathlib import Path

from idbench.campaign import read_campaign, simulate
from idbench.campaign_text import campaign_table
from idbench.prompts.sources import data_root

EXAMPLE = """\
a campaign:

  suites: [demo, {name: mine, images: 5000}]
  methods:
    - {name: pulid-flux, seconds_per_image: 18.0, megabytes_per_image: 1.4, load_seconds: 90}
    - {name: mosaic, run: runs/demo/mosaic-1a2b3c4d}    # measured on a run
  scoring: {seconds_per_image: 0.9, megabytes_per_image: 0.1, gpus: 0.25}
  cluster: {nodes: 4, gpus_per_node: 8, cpus_per_node: 64, write_megabytes_per_second: 500,
            storage_gigabytes: 2000, price_per_gpu_hour: 2.5}
  overlap: false
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `idbench plan`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        "--simulate",
        required=True,
        type=Path,
        metavar="CAMPAIGN.yaml",
        help="methods, suites, measured costs and the cluster, see below",
    )
    parser.add_argument("--json", action="store_true", help="every number, as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints GPU-hours, wall time, storage and the bottleneck; 1 if the storage is too small."""
    found = simulate(read_campaign(args.simulate), data_root())
    if args.json:
        print(json.dumps(dataclasses.asdict(found) | {"bottleneck": found.bottleneck}, indent=2))
    else:
        print(campaign_table(found))
    return int(bool(found.warnings))
