"""What EditID costs per denoising step, beside plain FLUX and PuLID-FLUX in the same process."""

from idbench.methods.common.timing import Size
from idbench.methods.editid.config import EditIDConfig
from idbench.methods.editid.integration import PooledQueries
from idbench.methods.pulid.performance import Variant, make_bench, report
from idbench.methods.pulid.pipeline import ConstantWeight


def measure(name: str, *, size: Size, device: str, steps: int, backend: str = "inductor") -> str:
    """Seconds per step, overhead, memory and effect of compiling, as a table.

    Raises:
        ValueError: If `steps` is below 1.
    """
    config = EditIDConfig()
    plan = ConstantWeight(1.0)
    variants = [
        Variant(name="EditID", plan=plan, integration=PooledQueries(config.gamma)),
        Variant(name="PuLID-FLUX", plan=plan),
    ]
    return report(name, make_bench(config, size, device), variants, steps=steps, backend=backend)
