"""Writes a small FLUX, PuLID and their helpers to disk in the formats of the released files.

Weights are random, except that the face detectors find faces: SCRFD one around a bright patch near
the middle of the photo, if there is one, RetinaFace one in the middle.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

WIDTH = 32  # of the FLUX stream: 2 heads of 16
TEXT_WIDTH = 24
POOLED_WIDTH = 32
TOKEN_WIDTH = 128  # of identity tokens; as wide as the queries, as in the released files
ENCODER_WIDTH = 64  # one head of 64
TOWER_WIDTH = 64
TOWER_SIDE = 56
LATENT_CHANNELS = 4
FACE_SCORE_STRIDE = 32
# ArcFace's template in its 112 px crop, relative to the centre and in widths of the crop
TEMPLATE_112 = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


def write_flux(folder, *, guidance_embeds=True):
    """FLUX in diffusers' layout, tokenizers included."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(11)
    clip, t5 = _clip_tokenizer(), _t5_tokenizer()
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        transformer=FluxTransformer2DModel(
            in_channels=4 * LATENT_CHANNELS,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=POOLED_WIDTH,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        ),
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=LATENT_CHANNELS,
            layers_per_block=1,
            norm_num_groups=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=POOLED_WIDTH,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id,
                pad_token_id=clip.pad_token_id,
            )
        ),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=len(t5),
                d_model=TEXT_WIDTH,
                d_kv=8,
                d_ff=32,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer_2=t5,
    )
    pipe.save_pretrained(folder)
    return folder


def _clip_tokenizer():
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    characters = sorted(ByteLevel.alphabet())
    pieces = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def _t5_tokenizer():
    from transformers import T5TokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-"
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [("▁", -2.0), *((c, -3.0) for c in letters)]
    extra = [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)]
    return T5TokenizerFast(vocab=[*specials, *pieces, *extra], model_max_length=512)


def write_pulid(path, *, seed=21, encoder=True, scale=1.0):
    """A file in the layout of pulid_flux_v0.9.x; `scale` multiplies the output projections."""
    from idbench.methods.pulid.attention import PerceiverAttentionCA
    from idbench.methods.pulid.encoder import IDFormer

    torch.manual_seed(seed)
    tensors = {}
    if encoder:
        former = IDFormer(
            dim=ENCODER_WIDTH,
            depth=5,
            dim_head=64,
            heads=1,
            num_queries=8,
            output_dim=TOKEN_WIDTH,
            ff_mult=2,
            hidden_dim=TOWER_WIDTH,
            mapping_dim=48,
        )
        tensors.update({f"pulid_encoder.{k}": v for k, v in former.state_dict().items()})
    for index in range(2):
        module = PerceiverAttentionCA(dim=WIDTH, dim_head=128, heads=1, kv_dim=TOKEN_WIDTH)
        module.to_out.weight.data.mul_(scale)
        tensors.update({f"pulid_ca.{index}.{k}": v for k, v in module.state_dict().items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def write_eva(path):
    """A whole EVA-CLIP checkpoint: image tower under `visual.`, rotary tables, a text tower."""
    from idbench.methods.pulid.eva import EVATower

    torch.manual_seed(31)
    tower = EVATower(image_size=TOWER_SIDE, dim=TOWER_WIDTH, depth=24, heads=1, mlp_width=96)
    tower.cls_token.data.normal_()
    tower.pos_embed.data.normal_(std=0.1)
    state = {f"visual.{key}": value for key, value in tower.state_dict().items()}
    state["visual.rope.freqs_cos"], state["visual.rope.freqs_sin"] = tower.cos, tower.sin
    state["visual.blocks.0.attn.rope.freqs_cos"] = tower.cos
    state["text.token_embedding.weight"] = torch.zeros(4, 4)
    state["logit_scale"] = torch.zeros(())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def write_antelopev2(folder, *, threshold=-0.2):
    """`scrfd_10g_bnkps.onnx` and `glintr100.onnx`.

    Args:
        folder: Where to write.
        threshold: Brightness, in [-1, 1], from which a patch of 32 px is the middle of a face.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_scrfd(threshold), folder / "scrfd_10g_bnkps.onnx")
    onnx.save(_arcface(), folder / "glintr100.onnx")
    return folder


def _constant(name, array):
    return numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)


def _scrfd(threshold):
    half = 5.0  # half the box, in strides
    nodes, initializers, outputs = [], [], []
    shape = numpy_helper.from_array(np.array([-1, 1], np.int64), "shape1")
    initializers.append(shape)
    for width in (4, 10):
        initializers.append(
            numpy_helper.from_array(np.array([-1, width], np.int64), f"shape{width}")
        )
    landmarks = (TEMPLATE_112 - 56) / 112 * 2 * half
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            weight = np.zeros((2 * width, 3, stride, stride))
            if kind == "score":
                bias = np.full(2, -20.0)
                if stride == FACE_SCORE_STRIDE:
                    weight[0] = 40 / (3 * stride * stride)  # 40 times the mean brightness
                    bias[0] = -40 * threshold
            elif kind == "bbox":
                bias = np.full(8, half)
            else:
                bias = np.tile(landmarks.reshape(-1), 2)
            name = f"{kind}_{stride}"
            raw = f"{name}.map"
            if kind == "score":
                # the nearer to the middle of the 640 px input, the better a face
                raw = f"{name}.raw"
                side = 640 // stride
                rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
                middle = -8.0 * np.hypot(rows, columns)[None, None] * stride / FACE_SCORE_STRIDE
                initializers.append(_constant(f"{name}.middle", middle))
                nodes_after = [helper.make_node("Add", [raw, f"{name}.middle"], [f"{name}.map"])]
            else:
                nodes_after = []
            initializers += [_constant(f"{name}.weight", weight), _constant(f"{name}.bias", bias)]
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input.1", f"{name}.weight", f"{name}.bias"],
                    [raw],
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                *nodes_after,
                helper.make_node("Transpose", [f"{name}.map"], [f"{name}.last"], perm=[0, 2, 3, 1]),
            ]
            rows = f"{name}.rows" if kind == "score" else name
            nodes.append(helper.make_node("Reshape", [f"{name}.last", f"shape{width}"], [rows]))
            if kind == "score":
                nodes.append(helper.make_node("Sigmoid", [rows], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]))
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "h", "w"])
    return _model(nodes, "scrfd", image, outputs, initializers)


def _arcface():
    rng = np.random.default_rng(41)
    channels, side = 8, 7
    initializers = [
        _constant("conv.weight", rng.normal(0, 0.05, (channels, 3, 16, 16))),
        _constant("conv.bias", rng.normal(0, 0.1, channels)),
        _constant("bn.weight", rng.uniform(0.5, 1.5, channels)),
        _constant("bn.bias", rng.normal(0, 0.1, channels)),
        _constant("bn.mean", rng.normal(0, 0.1, channels)),
        _constant("bn.var", rng.uniform(0.5, 1.5, channels)),
        _constant("prelu.slope", rng.uniform(0.1, 0.4, (channels, 1, 1))),
        _constant("conv2.weight", rng.normal(0, 0.1, (channels, channels, 3, 3))),
        _constant("fc.weight", rng.normal(0, 0.2, (512, channels * side * side))),
        _constant("fc.bias", rng.normal(0, 0.1, 512)),
    ]
    batch_norm = ["conv.out", "bn.weight", "bn.bias", "bn.mean", "bn.var"]
    nodes = [
        helper.make_node(
            "Conv",
            ["input.1", "conv.weight", "conv.bias"],
            ["conv.out"],
            kernel_shape=[16, 16],
            strides=[16, 16],
        ),
        helper.make_node("BatchNormalization", batch_norm, ["bn.out"], epsilon=1e-5),
        helper.make_node("PRelu", ["bn.out", "prelu.slope"], ["prelu.out"]),
        helper.make_node(
            "Conv",
            ["prelu.out", "conv2.weight"],
            ["conv2.out"],
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
        ),
        helper.make_node("Add", ["prelu.out", "conv2.out"], ["add.out"]),
        helper.make_node("Flatten", ["add.out"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["683"], transB=1),
    ]
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, 112, 112])
    embedding = helper.make_tensor_value_info("683", TensorProto.FLOAT, ["n", 512])
    return _model(nodes, "arcface", image, [embedding], initializers)


def _model(nodes, name, image, outputs, initializers):
    graph = helper.make_graph(nodes, name, [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def write_facexlib(folder):
    """`detection_Resnet50_Final.pth` (keys under `module.`) and `parsing_bisenet.pth`."""
    from facexlib.detection.retinaface import RetinaFace
    from facexlib.parsing.bisenet import BiSeNet

    from idbench.methods.pulid.faces import FFHQ_TEMPLATE

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(51)
    detector = RetinaFace(network_name="resnet50", device=torch.device("cpu"))
    relative = torch.tensor((FFHQ_TEMPLATE / 512 - 0.5).reshape(-1), dtype=torch.float32) / 0.1
    for level in range(3):
        for head in (detector.ClassHead, detector.BboxHead, detector.LandmarkHead):
            head[level].conv1x1.weight.data.zero_()
            head[level].conv1x1.bias.data.zero_()
        # (background, face) for the smaller and the larger prior; a face is the 256 px prior
        face = [0.0, 6.0, 6.0, 0.0] if level == 2 else [6.0, 0.0, 6.0, 0.0]
        detector.ClassHead[level].conv1x1.bias.data = torch.tensor(face)
        detector.LandmarkHead[level].conv1x1.bias.data = relative.repeat(2)
    state = {f"module.{key}": value for key, value in detector.state_dict().items()}
    torch.save(state, folder / "detection_Resnet50_Final.pth")
    torch.save(BiSeNet(num_class=19).state_dict(), folder / "parsing_bisenet.pth")
    return folder


def write_copying_vae(folder):
    """A VAE that does what a trained one does: it keeps the picture, averaged over cells of 8 px.

    In the networks' terms: every branch beside a shortcut is zero, x travels as (x, -x), since
    silu(x) - silu(-x) = x, and a large constant keeps the norms from changing contrast.
    """
    from diffusers import AutoencoderKL

    constant, scaling_factor, deviation = 8.0, 0.3611, 2.0
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=scaling_factor,
        shift_factor=0.1159,
    )
    gain = deviation / scaling_factor  # white and black are latents of +- `deviation`
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if any(
                part in name for part in (".conv2.", ".to_out.0.", "sampler", "conv_in", "_out")
            ):
                parameter.zero_()
        for module in vae.modules():
            for channel in range(8):
                if type(module).__name__ == "Downsample2D":
                    module.conv.weight[channel, channel, :2, :2] = 0.25
                elif type(module).__name__ == "Upsample2D":
                    module.conv.weight[channel, channel, 1, 1] = 1.0
        for part, before, after in ((vae.encoder, 1.0, gain), (vae.decoder, 1.0 / gain, 1.0)):
            part.conv_in.bias[6], part.conv_in.bias[7] = constant, -constant
            part.conv_norm_out.weight.fill_(constant / 2)
            for colour in range(3):
                for sign, channel in ((1.0, colour), (-1.0, 3 + colour)):
                    part.conv_in.weight[channel, colour, 1, 1] = sign * before
                    part.conv_out.weight[colour, channel, 1, 1] = sign * after
        vae.encoder.conv_out.bias[LATENT_CHANNELS:] = -8.0  # log variance
    vae.save_pretrained(folder)
    return folder


def write_colour_recogniser(path):
    """A `glintr100.onnx` which, like a trained one, ignores where a face is: it sees colour."""
    model = _arcface()
    rng = np.random.default_rng(43)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name == "conv.weight":
            colours = rng.normal(0, 1, (8, 3, 1, 1))
            colours -= colours.mean(axis=1, keepdims=True)  # grey is no colour
            values = np.broadcast_to(colours / 256, values.shape)
        elif tensor.name == "fc.weight":
            values = np.repeat(rng.normal(0, 0.2, (512, 8)), 49, axis=1) / 49
        elif tensor.name.endswith(".bias") or tensor.name == "bn.mean":
            values = np.zeros_like(values)
        tensor.CopyFrom(_constant(tensor.name, values))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_all(root):
    """Everything, under the names of the weights catalogue."""
    root = Path(root)
    write_flux(root / "flux-dev")
    write_pulid(root / "pulid" / "pulid_flux_v0.9.1.safetensors")
    write_eva(root / "eva-clip" / "EVA02_CLIP_L_336_psz14_s6B.pt")
    write_antelopev2(root / "antelopev2")
    write_facexlib(root / "facexlib")
    return root


def close_up(person, seed, side=160):
    """A photo filled by the face of a person, who is a colour; the seed changes the texture."""
    from PIL import Image

    colour = np.array(((235, 170, 60), (60, 190, 240), (200, 120, 220))[person])
    noise = np.random.default_rng(seed).integers(-15, 15, (side, side, 3))
    return Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))


def portrait(seed, side=160):
    """A photo with a bright disc on a dark, textured ground, so that SCRFD sees a face."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    centre = side / 2 + rng.uniform(-10, 10, 2)
    disc = np.hypot(rows - centre[0], columns - centre[1]) < side * 0.3
    pixels = rng.integers(0, 60, (side, side, 3))
    pixels[disc] = rng.integers(150, 256, 3) - rng.integers(0, 40, (disc.sum(), 3))
    return Image.fromarray(pixels.astype(np.uint8))
