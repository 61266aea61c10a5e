"""Checks that need Stable Diffusion 1.4 in the weights folder of this user."""

import numpy as np
import platformdirs
import pytest
from PIL import Image

from idbench.methods.editedid.config import EditedIDConfig
from idbench.methods.editedid.masks import face_oval
from idbench.methods.editedid.pipeline import FacePair
from idbench.methods.editedid.registration import Crop
from idbench.methods.editedid.stability import psnr
from idbench.methods.editedid.study import model_study
from idbench.methods.editedid.text import prompts_for
from idbench.methods.editedid.weights import SOURCES, load_pipeline

pytestmark = [pytest.mark.weights, pytest.mark.slow]

CROP = Crop(left=127, top=21, side=193)  # 1.8 times the astronaut's face


@pytest.fixture(scope="module")
def pipeline():
    folder = platformdirs.user_data_path("idbench") / "weights" / SOURCES["base"].path
    if not folder.is_dir():
        pytest.skip(f"no model at {folder}")
    return load_pipeline(folder)


@pytest.fixture(scope="module")
def photograph():
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut())


def test_reconstruction_is_above_the_threshold_of_the_paper(pipeline, photograph):
    crop = CROP.image(photograph, pipeline.resolution)
    (row,) = [row for row in model_study(pipeline, [crop]) if row.solver == "hybrid"]
    assert row.psnr[0] >= 25.0


def test_entangled_latents_reconstruct_worse(pipeline, photograph):
    """PSNR of the original falls when the first mixing weight goes from 0.04 to 0.5."""
    original = CROP.image(photograph, pipeline.resolution)
    edited = np.asarray(original).copy()
    edited[180:200, 100:400] = 20
    side = pipeline.resolution
    mask_i = np.zeros((side, side), dtype=bool)
    mask_i[180:200, 100:400] = True
    pair = FacePair(
        original=original,
        intermediate=Image.fromarray(edited),
        mask_o=face_oval((150, 110, 370, 400), (side, side)),
        mask_i=mask_i,
        prompts=prompts_for(["face"], ["glasses"]),
    )
    quality = []
    for w_init in (0.04, 0.5):
        output = pipeline([pair], EditedIDConfig(w_init=w_init), reconstructions=True)
        quality.append(psnr(np.asarray(output.reconstructions[0][0]), np.asarray(original)))
    assert quality[0] > quality[1]
