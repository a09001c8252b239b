"""Watches a DeepSeek-V4 of transformers at work: compressed entries, the indexer, how near its choices are to ties."""

import functools

import deepseek_v4_formula as formula
import moe_parity
import torch
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as modeling

KINK = 2e-5  # no pre-activation is nearer than this to the limit of a clamped SwiGLU, nor a scaled one to a tie of FP4
RELU_KINK = 1e-4  # nor a product of an indexer's query and key, several times larger, to zero


def pad_columns(parts: list[torch.Tensor], value: float) -> torch.Tensor:
    """Rows of all parts; where a part has fewer columns, the others are `value`."""
    if parts[0].dim() != 2:
        return torch.cat(parts)
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=value) for part in parts])


def selected_columns(selected: torch.Tensor) -> torch.Tensor:
    """[tokens, entries] bool -> the chosen columns of each row, ascending, then -1."""
    count = selected.shape[1]
    columns = torch.where(selected, torch.arange(count), count).sort(-1).values
    width = int(selected.sum(-1).max()) if count else 0
    return columns[:, :width].masked_fill(columns[:, :width] == count, -1)


def detach_inputs(indexer, inputs):
    """Before an indexer's forward pass: its scores' gradient stops at its own parameters."""
    hidden_states, compressed_query, *others = inputs
    return hidden_states.detach(), compressed_query.detach(), *others


class Recorder:
    """A context: what the forward passes inside it did, layer by layer, document after document.

    With `fp4`, indexers compute with transformed and rounded queries and keys, which transformers lacks.
    """

    def __init__(self, model: torch.nn.Module, fp4: bool = False):
        self.model = model
        self.fp4 = fp4
        self.margins: list[float] = []
        self.kinks: list[torch.Tensor] = []  # gate and up pre-activations, up's made positive
        self.relu_kinks: list[float] = []
        self.fp4_margins: list[float] = []
        self.divergences: list[torch.Tensor] = []  # per token, with their graph to the indexers' parameters
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._hooks = []

    def __enter__(self):
        layers = [module for module in self.model.modules() if isinstance(module, modeling.DeepseekV4DecoderLayer)]
        for number, layer in enumerate(layers):
            attention, experts, shared = layer.self_attn, layer.mlp.experts, layer.mlp.shared_experts
            self._watch(shared.gate_proj, lambda module, inputs, gate: self.kinks.append(gate.detach().flatten()))
            self._watch(shared.up_proj, lambda module, inputs, up: self.kinks.append(up.detach().abs().flatten()))
            experts._apply_gate = functools.partial(self._record_gate, type(experts)._apply_gate, experts)
            if attention.compressor is None:
                continue
            last = {}  # of the current document
            self._watch(attention.compressor, functools.partial(self._record_entries, number, last))
            self._watch(attention, functools.partial(self._record_attention, number, last))
            if isinstance(attention.compressor, modeling.DeepseekV4CSACompressor):
                indexer = attention.compressor.indexer
                self._hooks.append(indexer.register_forward_pre_hook(detach_inputs))
                if self.fp4:
                    self._hooks.append(indexer.scorer.register_forward_pre_hook(self._round_inputs))
                self._watch(indexer, lambda module, inputs, output, last=last: last.update(best=output[0]))
                self._watch(indexer.scorer, functools.partial(self._record_scores, last))
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()
        for module in self.model.modules():
            if isinstance(module, modeling.DeepseekV4Experts):
                del module._apply_gate

    def _watch(self, module, hook):
        self._hooks.append(module.register_forward_hook(hook))

    def _round_inputs(self, scorer, inputs):
        """Before an indexer's scores, after RoPE: its queries [1, t, h, c] and keys [1, w, c] as FP4 holds them."""
        queries, keys, *others = inputs
        queries, keys = formula.hadamard(queries), formula.hadamard(keys)
        self.fp4_margins += [formula.fp4_margin(queries.detach()), formula.fp4_margin(keys.detach())]
        return formula.rounded_to_fp4(queries), formula.rounded_to_fp4(keys), *others

    def _record_gate(self, original, experts, gate_up):
        gate, up = gate_up.detach().chunk(2, dim=-1)
        self.kinks += [gate.flatten(), up.abs().flatten()]
        return original(experts, gate_up)

    def _record_entries(self, number, last, module, inputs, output):
        last["entries"] = output[0].shape[2]
        self._parts.setdefault(f"compressed.{number}", []).append(output[0][0, 0].detach())

    def _record_scores(self, last, module, inputs, output):
        queries, keys, _ = inputs  # [1, t, h, c], [1, w, c]
        last["scores"] = output[0]
        last["products"] = torch.einsum("thc,wc->thw", queries[0], keys[0]).detach().abs()

    def _record_attention(self, number, last, module, inputs, output):
        """Runs after the compressor, whose indexer has left its scores and choice in `last`."""
        if "scores" not in last:
            return
        scores, best = last["scores"], last["best"]  # [t, w] with a graph, [t, k]
        tokens, entries = scores.shape
        visible = torch.arange(entries) < (torch.arange(tokens)[:, None] + 1) // module.compressor.compress_rate
        selected = torch.zeros(tokens, entries + 1, dtype=torch.bool)
        selected = selected.scatter(1, torch.where(best < 0, entries, best), True)[:, :entries]
        assert not (selected & ~visible).any()
        topk = module.compressor.indexer.index_topk
        for row, seen in zip(scores.detach(), visible):
            if seen.sum() > topk:
                ordered = row[seen].sort(descending=True).values
                self.margins.append((ordered[topk - 1] - ordered[topk]).item())
        products = last["products"].masked_select(visible[:, None])
        # Products of FP4 numbers are exact in float32, zeros too.
        self.relu_kinks += (products[products > 0] if self.fp4 else products).tolist()
        # Attention over the entries, all heads together, against the indexer's own distribution, token by token.
        attended = output[1][0, :, :, -entries:].detach().sum(0) if entries else scores.detach()
        divergence = []
        for teacher, row, chosen in zip(attended, scores, selected):
            if not chosen.any():
                divergence.append(row.new_zeros(()))
                continue
            teacher = teacher[chosen] / teacher[chosen].sum()
            divergence.append(torch.nn.functional.kl_div(row[chosen].log_softmax(0), teacher, reduction="sum"))
        self.divergences.append(torch.stack(divergence))
        self._parts.setdefault(f"index_scores.{number}", []).append(scores.detach().masked_fill(~visible, 0))
        self._parts.setdefault(f"selected.{number}", []).append(selected_columns(selected))
        self._parts.setdefault(f"indexer_kl.{number}", []).append(self.divergences[-1].detach())

    def results(self) -> dict[str, torch.Tensor]:
        """What there is something of, under the names that are stored."""
        results = {}
        for name, parts in self._parts.items():
            padded = pad_columns(parts, -1 if name.startswith("selected") else 0)
            if padded.numel() > 0:
                results[name] = padded
        return results

    def _clamps(self, limit: float) -> torch.Tensor:
        return torch.cat(self.kinks) - limit

    def decided(self, limit: float) -> bool:
        """No choice near a tie, no value near a kink; and where the limit is small, some values are beyond it."""
        clamps = self._clamps(limit)
        assert limit > 3 or (clamps > 0).double().mean() > 0.02, "the limit should matter"
        return (min(self.margins, default=1) >= moe_parity.MARGIN and clamps.abs().min() >= KINK
                and min(self.relu_kinks, default=1) >= RELU_KINK and min(self.fp4_margins, default=1) >= KINK)

    def summary(self, limit: float) -> dict:
        clamps = self._clamps(limit)
        smallest = min(self.margins)  # infinite where tables choose and every entry is selected
        return {"smallest_margin": float(f"{smallest:.2g}") if smallest < 1 else None,
                "clamped_fraction": round((clamps > 0).double().mean().item(), 3)}
