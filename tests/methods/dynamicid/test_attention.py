import dataclasses

import pytest
import torch
from diffusers.models.attention_processor import Attention

from idbench.methods.dynamicid.attention import (
    LoRASelfAttention,
    SemanticActivatedAttention,
    activation,
    attend_to_identity,
)
from idbench.methods.dynamicid.control import SAAControl
from idbench.methods.dynamicid.gate import min_max, raw_activation
from idbench.methods.dynamicid.layout import Layout, vertical_strips
from idbench.methods.dynamicid.recorder import ActivationRecorder

LEFT, RIGHT = (0.1, 0.0, 0.9, 0.45), (0.1, 0.55, 0.9, 1.0)


def layer(meta, state):
    """The attention module of a golden case with its processor."""
    width = {"query_dim": meta["hidden_size"], "heads": meta["heads"], "bias": False}
    width["dim_head"] = meta["hidden_size"] // meta["heads"]
    if "cross_attention_dim" in meta:
        attn = Attention(cross_attention_dim=meta["cross_attention_dim"], **width)
        processor = SemanticActivatedAttention(
            meta["hidden_size"], meta["cross_attention_dim"], meta["rank"]
        )
    else:
        attn = Attention(**width)
        processor = LoRASelfAttention(meta["hidden_size"], rank=meta["rank"])
    attn.load_state_dict(state("attn"), strict=True)
    processor.load_state_dict(state("saa"), strict=True)
    attn.set_processor(processor)
    return attn, processor


def control_of(case):
    meta, batch = case.meta, len(case.tensors["in/hidden_states"])
    boxes = meta["bboxes_y0x0y1x1"]
    width, height = meta["root_width_height"] or (meta["query_width"], meta["query_height"])
    mixed = meta["mix_scale"] is not None and len(boxes) == 1
    control = SAAControl(
        num_people=meta["num_ids"],
        tokens_per_person=meta["tokens_per_id"],
        layout=Layout([boxes] * batch, height=height, width=width),
        layout_steps=meta["infer_end"],
        beta=float(meta["infer_scale"]),
        gate_threshold=meta["threshold"],
        id_scale=meta["id_scale"],
        activate_query=meta["activate_query"],
        id_mix="logit" if mixed else None,
        mix_scale=meta["mix_scale"],
    )
    return control.at_step(meta["step_index"])


def run(case, **changes):
    attn, _ = layer(case.meta, case.group)
    given = {key: tensor.clone() for key, tensor in case.group("in").items()} | changes
    context = torch.cat([given["text_tokens"], given["id_tokens"]], dim=1)
    control = control_of(case)
    return attn(given["hidden_states"], encoder_hidden_states=context, saa=control)


def gate_inputs(case):
    attn, processor = layer(case.meta, case.group)
    given, control = case.group("in"), control_of(case)
    context = torch.cat([given["text_tokens"], given["id_tokens"]], dim=1)
    query = processor.project(attn.to_q, processor.to_q_lora, given["hidden_states"])
    projected = processor.project_context(attn, context, control.num_identity_tokens)
    return query, projected, control, attn.heads


@pytest.mark.golden
def test_layers_agree_with_the_official_code(cases):
    checked = 0
    for case in cases("saa"):
        if "cross_attention_dim" not in case.meta:
            continue
        torch.testing.assert_close(
            run(case), case.tensors["out/hidden_states"], atol=2e-5, rtol=0, msg=case.name
        )
        checked += 1
    assert checked


@pytest.mark.golden
def test_self_attention_agrees_with_the_official_code(cases):
    found = [case for case in cases("saa") if "cross_attention_dim" not in case.meta]
    assert found
    for case in found:
        attn, _ = layer(case.meta, case.group)
        expected = case.tensors["out/hidden_states"]
        torch.testing.assert_close(
            attn(case.tensors["in/hidden_states"]), expected, atol=2e-5, rtol=0
        )


@pytest.mark.golden
def test_gates_agree_with_the_official_code(cases):
    checked = 0
    for case in cases("saa"):
        if "out/gate" not in case.tensors:
            continue
        query, projected, control, _ = gate_inputs(case)
        gate = activation(query, projected, control)
        torch.testing.assert_close(gate, case.tensors["out/gate"], atol=5e-6, rtol=0)
        raw = min_max(raw_activation(query, projected.key_sum))
        expected = case.tensors["out/raw_weight_unthresholded"]
        torch.testing.assert_close(raw, expected, atol=5e-6, rtol=0)
        checked += 1
    assert checked


@pytest.mark.golden
def test_other_people_are_suppressed_exactly_where_the_official_code_does(cases):
    checked = 0
    for case in cases("saa"):
        expected = case.tensors.get("out/masked_scores")
        if expected is None or case.meta["num_ids"] != len(case.meta["bboxes_y0x0y1x1"]):
            continue
        query, projected, control, heads = gate_inputs(case)
        bias = control.layout.suppression(
            query.shape[1], control.tokens_per_person, query.device, query.dtype
        )
        suppressed = torch.isneginf(bias).expand_as(expected)
        if case.meta["num_ids"] > 1:
            assert torch.equal(suppressed, torch.isneginf(expected)), case.name
        split = query.unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = split @ projected.identity_key.transpose(-1, -2) * split.shape[-1] ** -0.5
        visible = ~torch.isneginf(expected)
        torch.testing.assert_close(scores[visible], expected[visible], atol=2e-5, rtol=1e-5)
        checked += 1
    assert checked


@pytest.mark.golden
def test_gradients_agree_with_the_official_code(cases):
    checked = 0
    for case in cases("saa"):
        expected = {
            key.removeprefix("out/grad."): tensor
            for key, tensor in case.tensors.items()
            if key.startswith("out/grad.")
        }
        if not expected:
            continue
        attn, processor = layer(case.meta, case.group)
        hidden = case.tensors["in/hidden_states"].clone().requires_grad_()
        identity = case.tensors["in/id_tokens"].clone().requires_grad_()
        context = torch.cat([case.tensors["in/text_tokens"], identity], dim=1)
        out = attn(hidden, encoder_hidden_states=context, saa=control_of(case))
        (out * case.tensors["in/probe"]).sum().backward()
        found = {"hidden_states": hidden.grad, "id_tokens": identity.grad}
        found |= {name: parameter.grad for name, parameter in processor.named_parameters()}
        for name, gradient in expected.items():
            error = (found[name] - gradient).abs().max() / gradient.abs().max()
            assert error < 1e-4, (case.name, name)
        checked += 1
    assert checked


# Properties on a small layer of our own.


@dataclasses.dataclass
class Small:
    """An attention layer over 8 x 8 queries of two samples, and the tokens of three people."""

    attn: Attention
    processor: SemanticActivatedAttention
    hidden: torch.Tensor
    text: torch.Tensor
    people: list[torch.Tensor]

    def context(self, people):
        return torch.cat([self.text, *people], dim=1)

    def attend(self, people, saa, hidden=None):
        hidden = self.hidden if hidden is None else hidden
        return self.attn(hidden, encoder_hidden_states=self.context(people), saa=saa)

    def project(self, people):
        context = self.context(people)
        return self.processor.project_context(self.attn, context, 4 * len(people))

    def query(self):
        return self.processor.project(self.attn.to_q, self.processor.to_q_lora, self.hidden)

    def gate(self, people, saa):
        return activation(self.query(), self.project(people), saa)


@pytest.fixture
def small():
    torch.manual_seed(3)
    attn = Attention(query_dim=48, cross_attention_dim=40, heads=4, dim_head=12)
    processor = SemanticActivatedAttention(48, 40, rank=4)
    for parameter in processor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    attn.set_processor(processor)
    attn.requires_grad_(False)
    people = [torch.randn(2, 4, 40) for _ in range(3)]
    return Small(attn, processor, torch.randn(2, 64, 48), torch.randn(2, 7, 40), people)


def control(num_people, boxes=None, **settings):
    layout = None if boxes is None else Layout([boxes] * 2, height=8, width=8)
    return SAAControl(num_people=num_people, layout=layout, **settings)


CPU = torch.device("cpu")


def test_gate_without_layout_is_0_or_from_the_threshold_to_1(small):
    gate = small.gate(small.people[:1], control(1))
    assert ((gate == 0) | ((gate >= 0.3) & (gate <= 1))).all()
    assert (gate == 0).any()
    assert ((gate == 1).sum(dim=1) == 1).all()


def test_gate_with_layout_is_high_inside_and_low_outside(small):
    saa = control(1, [LEFT], layout_steps=1, beta=2.0).at_step(0)
    gate, inside = small.gate(small.people[:1], saa), saa.layout.union(64, CPU)
    assert (gate[inside] >= 2).all()
    assert (gate[inside] <= 3).all()
    assert (gate[~inside] >= 0).all()
    assert (gate[~inside] <= 1 / 3).all()


def test_gate_does_not_change_with_the_scale_of_the_keys(small):
    saa = control(1, gate_threshold=0.0)
    before = small.gate(small.people[:1], saa)
    small.processor.to_k_ip.weight.mul_(7)
    torch.testing.assert_close(small.gate(small.people[:1], saa), before, atol=1e-5, rtol=0)


def test_gate_does_not_change_when_all_activations_shift():
    raw = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(min_max(raw + 3.0), min_max(raw), atol=1e-5, rtol=0)


def test_fused_gate_equals_the_sum_of_all_scores(small):
    query, projected = small.query(), small.project(small.people)
    heads = query.unflatten(-1, (small.attn.heads, -1)).transpose(1, 2).double()
    key = projected.identity_key.double()
    scores = heads @ key.transpose(-1, -2) / heads.shape[-1] ** 0.5
    expected = scores.sum(dim=(1, 3))  # equation 2, with the sum over heads of the official code
    found = raw_activation(query, projected.key_sum)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)


def test_the_layout_term_ends_after_its_steps(small):
    saa, person = control(1, [LEFT], layout_steps=12), small.people[:1]
    first, last, after = (small.gate(person, saa.at_step(i)) for i in (0, 11, 12))
    assert torch.equal(first, last)
    assert torch.equal(after, small.gate(person, control(1)))
    assert not torch.equal(first, after)


def test_a_sample_ignores_its_neighbours(small):
    both = small.attend(small.people[:1], control(1))
    context = small.context(small.people[:1])[:1]
    alone = small.attn(small.hidden[:1], encoder_hidden_states=context, saa=control(1))
    torch.testing.assert_close(both[:1], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("step", [0, 5])
def test_a_face_takes_nothing_of_the_values_of_another_person(small, step):
    people = small.people[:2]
    saa = control(2, [LEFT, RIGHT], layout_steps=3, gate_threshold=0.0).at_step(step)
    projected = small.project(people)
    values = projected.identity_value.clone()
    values[:, :, 4:] += 1.0
    changed = dataclasses.replace(projected, identity_value=values)
    small.processor.layer_name = "layer"
    first, second = (
        small.attend(people, dataclasses.replace(saa, projections={"layer": entry}))
        for entry in (projected, changed)
    )
    in_first, in_second = saa.layout.masks(64, CPU).unbind(dim=1)
    difference = (first - second).abs().amax(dim=-1)
    assert (difference[in_first] == 0).all()
    opened = small.gate(people, saa) > 0
    assert (difference[in_second & opened] > 0).all()
    assert (difference[~in_first & ~in_second & opened] > 0).all()


def test_another_reference_changes_nothing_where_both_gates_are_shut(small):
    """Context decoupling: what no gate opens to is the same to the last bit."""
    outputs = [small.attend([person], control(1)) for person in small.people[:2]]
    gates = [small.gate([person], control(1)) for person in small.people[:2]]
    shut = (gates[0] == 0) & (gates[1] == 0)
    changed = (outputs[0] != outputs[1]).any(dim=-1)
    assert shut.any()
    assert not changed[shut].any()
    assert changed[~shut].all()


def test_two_people_can_swap_places_with_their_boxes(small):
    one, two, _ = small.people
    saa = control(2, [LEFT, RIGHT], layout_steps=1).at_step(0)
    swapped = control(2, [RIGHT, LEFT], layout_steps=1).at_step(0)
    first = small.attend([one, two], saa)
    torch.testing.assert_close(first, small.attend([two, one], swapped), atol=2e-6, rtol=0)
    assert (first - small.attend([two, one], saa)).abs().max() > 1e-2


def test_swapping_people_and_boxes_permutes_the_suppression_exactly():
    biases = [
        Layout([boxes], height=8, width=8).suppression(64, 4, CPU, torch.float32)
        for boxes in ([LEFT, RIGHT], [RIGHT, LEFT])
    ]
    assert torch.equal(biases[0], biases[1].roll(4, dims=-1))
    assert not torch.equal(biases[0], biases[1])


def test_overlapping_boxes_share_their_queries_and_stay_finite(small):
    boxes = [(0.0, 0.0, 1.0, 0.75), (0.0, 0.25, 1.0, 1.0)]
    saa = control(2, boxes, layout_steps=1).at_step(0)
    assert torch.isfinite(small.attend(small.people[:2], saa)).all()
    assert (small.gate(small.people[:2], saa) <= 3).all()  # the official code compounds to more


def test_a_constant_gate_is_shut_not_nan(small):
    flat = small.hidden[:, :1].expand(-1, 64, -1)
    out = small.attend(small.people[:1], control(1), hidden=flat)
    assert torch.isfinite(out).all()
    shut = small.attend(small.people[:1], control(1, id_scale=0.0), hidden=flat)
    assert torch.equal(out, shut)


@pytest.mark.parametrize("activate_query", [True, False])
def test_nothing_is_added_at_id_scale_0(small, activate_query):
    for lora in ("to_q_lora", "to_k_lora", "to_v_lora", "to_out_lora"):
        torch.nn.init.zeros_(getattr(small.processor, lora).up.weight)
    plain = Attention(query_dim=48, cross_attention_dim=40, heads=4, dim_head=12)
    state = small.attn.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    expected = plain(small.hidden, encoder_hidden_states=small.text)
    saa = control(1, id_scale=0.0, activate_query=activate_query)
    torch.testing.assert_close(small.attend(small.people[:1], saa), expected, atol=1e-6, rtol=0)


def test_without_the_gate_boxes_have_no_effect(small):
    boxed = control(2, vertical_strips(2), activate_query=False, layout_steps=9).at_step(0)
    unboxed = control(2, activate_query=False)
    people = small.people[:2]
    assert torch.equal(small.attend(people, boxed), small.attend(people, unboxed))


@pytest.mark.parametrize(("share", "chosen"), [(1.0, 0), (0.0, 1)])
def test_mixing_by_probability_ends_at_either_face(small, share, chosen):
    saa = control(2, id_mix="prob", mix_scale=share, gate_threshold=0.0)
    people = small.people[:2]
    mixed = attend_to_identity(
        small.query().reshape(2, 64, 4, 12).transpose(1, 2), small.project(people), saa
    )
    alone = attend_to_identity(
        small.query().reshape(2, 64, 4, 12).transpose(1, 2),
        small.project([people[chosen]]),
        control(1),
    )
    torch.testing.assert_close(mixed, alone, atol=1e-6, rtol=0)


def test_the_recorder_keeps_activations_without_the_layout_term(small):
    recorder = ActivationRecorder(step_index=7)
    small.processor.layer_name = "up.attn2"
    saa = control(1, [LEFT], layout_steps=9, recorder=recorder).at_step(0)
    small.attend(small.people[:1], saa)
    expected = small.gate(small.people[:1], control(1))
    assert torch.equal(recorder.activations["up.attn2", 7], expected)


def test_a_forward_without_settings_is_refused(small):
    with pytest.raises(ValueError, match="SAAControl"):
        small.attn(small.hidden, encoder_hidden_states=small.text)


def test_a_context_without_text_is_refused(small):
    context = torch.cat(small.people, dim=1)
    with pytest.raises(ValueError, match="too few"):
        small.attn(small.hidden, encoder_hidden_states=context, saa=control(3))


def test_an_attention_mask_is_refused(small):
    with pytest.raises(ValueError, match="masks"):
        small.attn(
            small.hidden,
            encoder_hidden_states=small.context(small.people[:1]),
            attention_mask=torch.zeros(2, 1, 11),
            saa=control(1),
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"num_people": 0},
        {"num_people": 1, "beta": -1.0},
        {"num_people": 1, "gate_threshold": 1.5},
        {"num_people": 3, "id_mix": "logit", "mix_scale": 0.5},
        {"num_people": 2, "id_mix": "logit"},
        {"num_people": 2, "layout": Layout([[LEFT]], height=8, width=8)},
    ],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"must|needs"):
        SAAControl(**settings)
