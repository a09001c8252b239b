"""Runs DeepSeek-V4 twice in float64: by transformers, and by deepseek_v4_formula.py; and compares everything stored."""

import deepseek_v4_formula as formula
import deepseek_v4_names as names
import moe_parity
import parity
import torch
from deepseek_v4_recorder import Recorder, pad_columns, selected_columns
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as modeling

AGREEMENT = 1e-9  # between transformers and the formula, both in float64, relative to a tensor's norm


def margin(router: torch.nn.Module, hidden: torch.Tensor) -> float:
    if isinstance(router, modeling.DeepseekV4HashRouter):
        return float("inf")
    scores = router.score_fn(torch.nn.functional.linear(hidden, router.weight)) + router.e_score_correction_bias
    scores = scores.sort(-1, descending=True).values
    return (scores[..., router.top_k - 1] - scores[..., router.top_k]).min().item()


FAMILY = moe_parity.Family(
    DeepseekV4Config, DeepseekV4ForCausalLM, modeling, modeling.DeepseekV4DecoderLayer,
    (modeling.DeepseekV4TopKRouter, modeling.DeepseekV4HashRouter), margin,
)


def round_experts(model: DeepseekV4ForCausalLM) -> None:
    """To what FP4 holds. Gradients with respect to the rounded weights are, straight-through, those of the weights."""
    for module in model.modules():
        if isinstance(module, modeling.DeepseekV4Experts):
            for parameter in module.parameters():
                parameter.data = formula.rounded_to_fp4(parameter.data)


class MtpBlock(torch.nn.Module):
    """The multi-token-prediction block, which transformers lacks, around a decoder layer of transformers."""

    def __init__(self, config: DeepseekV4Config):
        super().__init__()
        extended = DeepseekV4Config(**{**config.to_dict(), "num_hidden_layers": config.num_hidden_layers + 1,
                                       "layer_types": config.layer_types + ["sliding_attention"],
                                       "mlp_layer_types": config.mlp_layer_types + ["moe"]})
        extended._attn_implementation = extended._experts_implementation = "eager"
        self.layer = modeling.DeepseekV4DecoderLayer(extended, config.num_hidden_layers)
        self.enorm, self.hnorm, self.norm = (
            modeling.DeepseekV4RMSNorm(config.hidden_size, eps=config.rms_norm_eps) for _ in range(3)
        )
        size = config.hidden_size
        self.e_proj, self.h_proj = (torch.nn.Linear(size, size, bias=False) for _ in range(2))
        self.hc_head = modeling.DeepseekV4HyperHead(config)

    def forward(self, tokens: torch.Tensor, streams: torch.Tensor, model: DeepseekV4ForCausalLM) -> torch.Tensor:
        """tokens [t] and the streams after the last layer [t, n, d] -> logits [t - 1, vocabulary]."""
        embedded = self.e_proj(self.enorm(model.model.embed_tokens(tokens[1:])))
        joined = embedded[:, None] + self.h_proj(self.hnorm(streams[:-1]))
        positions = torch.arange(len(tokens) - 1)
        distance = positions[:, None] - positions
        window = (distance >= 0) & (distance < model.config.sliding_window)
        mask = torch.zeros(window.shape, dtype=joined.dtype).masked_fill(~window, float("-inf"))
        rotary = model.model.rotary_emb(joined, position_ids=positions[None], layer_type="main")
        output = self.layer(joined[None], input_ids=tokens[None, 1:], position_embeddings={"main": rotary},
                            position_ids=positions[None], attention_mask=mask[None, None])
        return model.lm_head(self.norm(self.hc_head(output)))[0]


def run_transformers(model: DeepseekV4ForCausalLM, mtp: MtpBlock | None, documents: list) -> tuple[dict, Recorder]:
    """Everything that is stored, under transformers' names."""
    recorder = Recorder(model, formula.trained_for_fp4(model.config.to_dict()))
    with moe_parity.recorded(FAMILY, model) as records, recorder:
        results = parity.compute(model, documents)
        recorder.margins += records.pop("margin")
    results.update({name: torch.cat(parts) for name, parts in records.items()})
    results.update(recorder.results())
    divergence = torch.cat(recorder.divergences).sum() if recorder.divergences else torch.zeros(())
    if divergence.requires_grad:
        divergence.backward()
        for name, parameter in model.named_parameters():
            if ".indexer." in name:
                assert f"gradient.{name}" not in results and parameter.grad.norm() > 0, name
                results[f"indexer_gradient.{name}"] = parameter.grad
    if mtp is not None:
        results.update(run_mtp(model, mtp, documents, recorder))
    return results, recorder


def mtp_loss(logits: list[torch.Tensor], documents: list[torch.Tensor]) -> torch.Tensor:
    """The last of the t - 1 logits of a document has no target."""
    return parity.mean_loss(logits, [tokens[1:] for tokens in documents])


def run_mtp(model: DeepseekV4ForCausalLM, mtp: MtpBlock, documents: list, recorder: Recorder) -> dict:
    """mtp_logits, mtp_loss and its gradients; adds to the recorder how near choices and values were to ties."""
    model.zero_grad()
    results, logits = {}, []
    for tokens, suffix in zip(documents, parity.suffixes(documents)):
        streams = []
        hook = model.model.layers[-1].register_forward_hook(lambda module, inputs, output: streams.append(output[0]))
        model(input_ids=tokens[None], use_cache=False)
        hook.remove()
        with moe_parity.recorded(FAMILY, mtp) as records, Recorder(mtp) as mtp_recorder:
            logits.append(mtp(tokens, streams[0], model))
        recorder.margins += records["margin"] + mtp_recorder.margins
        recorder.kinks += mtp_recorder.kinks
        results[f"mtp_logits{suffix}"] = logits[-1].detach()
    loss = mtp_loss(logits, documents)
    loss.backward()
    results["mtp_loss"] = loss.detach()
    parameters = dict(model.named_parameters())
    parameters.update({f"mtp.0.{name}": parameter for name, parameter in mtp.named_parameters()})
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            results[f"mtp_gradient.{name}"] = parameter.grad
    return results


def gradients_official(results: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same results with the published names behind gradient., indexer_gradient. and mtp_gradient."""
    renamed = {}
    for name, value in results.items():
        kind, _, parameter = name.partition(".")
        if kind.endswith("gradient"):
            renamed.update({f"{kind}.{piece}": part for piece, part in names.official({parameter: value}).items()})
        else:
            renamed[name] = value
    return renamed


def run_formula(published: dict, stored: dict[str, torch.Tensor], documents: list) -> dict[str, torch.Tensor]:
    """What run_transformers gives, from deepseek_v4_formula.py and the published names."""
    weights = {name: tensor.double().requires_grad_() if tensor.is_floating_point() else tensor
               for name, tensor in stored.items()}
    outputs = [formula.forward(tokens, weights, published) for tokens in documents]
    losses = {"gradient": parity.mean_loss([logits for logits, _, _ in outputs], documents)}
    results = {"loss": losses["gradient"]}
    traces = {}
    for (logits, _, layers), suffix in zip(outputs, parity.suffixes(documents)):
        results[f"logits{suffix}"] = logits
        for layer, trace in enumerate(layers):
            for name, value in trace.items():
                traces.setdefault(f"{name}.{layer}", []).append(value)
    divergences = [value for name, parts in traces.items() if name.startswith("indexer_kl") for value in parts]
    for name, parts in traces.items():
        if name.startswith("selected"):
            parts = [selected_columns(part) for part in parts]
        if name.startswith("index_scores"):
            parts = [part.masked_fill(part == -torch.inf, 0) for part in parts]
        results[name] = pad_columns(parts, -1 if name.startswith("selected") else 0)
    if any(name.startswith("mtp.") for name in stored):
        mtp_logits = [formula.mtp_forward(tokens, streams, weights, published)[0]
                      for tokens, (_, streams, _) in zip(documents, outputs)]
        losses["mtp_gradient"] = results["mtp_loss"] = mtp_loss(mtp_logits, documents)
        results.update({f"mtp_logits{suffix}": value for suffix, value in zip(parity.suffixes(documents), mtp_logits)})
    if any(divergence.requires_grad for divergence in divergences):
        losses["indexer_gradient"] = torch.cat(divergences).sum()
    leaves = {name: weight for name, weight in weights.items() if weight.requires_grad}
    for kind, loss in losses.items():
        found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        results.update({f"{kind}.{name}": grad for name, grad in zip(leaves, found) if grad is not None})
    return {name: value.detach() for name, value in results.items() if value.numel() > 0}


def check_formula(case: str, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """transformers and the formula say the same, in every tensor; a gradient that only one has is zero."""
    for name in set(found) ^ set(expected):
        assert name.startswith(("gradient", "indexer_gradient")) and name not in found, f"{case}: {name}"
        assert expected[name].norm() == 0, f"{case}: {name}"
    for name, value in found.items():
        assert value.shape == expected[name].shape, f"{case}: {name} {value.shape} {expected[name].shape}"
        difference = (value.double() - expected[name].double()).norm()
        assert difference <= AGREEMENT * expected[name].double().norm(), f"{case}: {name} differs by {difference}"
