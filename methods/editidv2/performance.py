"""What EditIDv2 costs per denoising step in both readings, beside plain FLUX."""

from idbench.methods.common.timing import Size
from idbench.methods.editidv2.config import EditIDv2Config
from idbench.methods.editidv2.decomposition import Alpha, DecomposedQueries, QueryDecomposition
from idbench.methods.pulid.performance import Variant, make_bench, report
from idbench.methods.pulid.pipeline import ConstantWeight


def measure(name: str, *, size: Size, device: str, steps: int, backend: str = "inductor") -> str:
    """Seconds per step, overhead, memory and effect of compiling, as a table.

    The paper reading is that without guidance, whose face networks are not part of a step's cost
    in `idbench run` either as long as beta0 is 0. Its first step keeps the queries of the others.

    Raises:
        ValueError: If `steps` is below 1.
    """
    decomposition = QueryDecomposition()
    plan = DecomposedQueries(decomposition=decomposition, alpha=Alpha(), id_weight=1.0)
    variants = [
        Variant(name="released", plan=ConstantWeight(1.0)),
        Variant(name="paper", plan=plan, integration=decomposition),
    ]
    bench = make_bench(EditIDv2Config(), size, device)
    return report(name, bench, variants, steps=steps, backend=backend)
