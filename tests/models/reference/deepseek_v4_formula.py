"""DeepSeek-V4 in plain PyTorch, from a specification of its report and published inference code, not from transformers.

Slow and small: one document, float64, no cache, no quantisation. It is the second opinion on every number that
make_deepseek_v4_parity.py stores, and the only one on what transformers does not have (the MTP block).

`weights` maps the published names (`layers.0.attn.wq_a.weight`) to tensors, `config` has the published keys
(`compress_ratios`, `num_hash_layers`, `qk_rope_head_dim`, `rope_scaling`). Letters: t tokens, n streams, d hidden size,
h heads, c head size, w compressed entries. `trace` collects what the caller wants to look at, by name.
"""

import math

import torch
from torch.nn.functional import silu, softplus


def rms_norm(x, epsilon, weight=None):
    normed = x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    return normed if weight is None else normed * weight


def frequencies(config, ratio):
    """Inverse RoPE frequencies: plain, of rope_theta, where nothing is compressed, else YaRN of compress_rope_theta."""
    size = config["qk_rope_head_dim"]
    theta = config["rope_theta"] if ratio == 0 else config["compress_rope_theta"]
    plain = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    scaling = config["rope_scaling"]
    if ratio == 0 or scaling is None:
        return plain

    def dimension(rotations):  # the (fractional) pair that turns so often within the original length
        length = scaling["original_max_position_embeddings"]
        return size * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension(scaling["beta_fast"])), 0)
    high = min(math.ceil(dimension(scaling["beta_slow"])), size - 1)
    ramp = (torch.arange(size // 2, dtype=torch.float64) - low) / (high - low if high != low else 0.001)
    ramp = ramp.clamp(0, 1)
    return plain * (1 - ramp) + plain / scaling["factor"] * ramp


def rotate(x, positions, inverse_frequencies, sign=1):
    """RoPE on the last 2 * len(inverse_frequencies) channels of x [t, ..., c], neighbours paired."""
    size = 2 * len(inverse_frequencies)
    angles = sign * positions.double()[:, None] * inverse_frequencies
    shape = [len(positions)] + [1] * (x.dim() - 2) + [size // 2]
    turn = torch.polar(torch.ones_like(angles), angles).view(shape)
    tail = torch.view_as_complex(x[..., -size:].unflatten(-1, (-1, 2)).contiguous())
    return torch.cat([x[..., :-size], torch.view_as_real(tail * turn).flatten(-2)], -1)


def sinkhorn(logits, config):
    epsilon = config["hc_eps"]
    mix = logits.softmax(-1) + epsilon
    mix = mix / (mix.sum(-2, keepdim=True) + epsilon)
    for _ in range(config["hc_sinkhorn_iters"] - 1):
        mix = mix / (mix.sum(-1, keepdim=True) + epsilon)
        mix = mix / (mix.sum(-2, keepdim=True) + epsilon)
    return mix


def connected(streams, weights, prefix, sublayer, config):
    """A sublayer [t, d] -> [t, d] between manifold-constrained hyper-connections; streams [t, n, d]."""
    n = config["hc_mult"]
    flat = streams.flatten(1)
    inverse = (flat.square().mean(-1, keepdim=True) + config["rms_norm_eps"]).rsqrt()
    mixes = (flat @ weights[prefix + "_fn"].T) * inverse
    scale, base = weights[prefix + "_scale"], weights[prefix + "_base"]
    pre = torch.sigmoid(scale[0] * mixes[:, :n] + base[:n]) + config["hc_eps"]
    post = 2 * torch.sigmoid(scale[1] * mixes[:, n:2 * n] + base[n:2 * n])
    mix = sinkhorn((scale[2] * mixes[:, 2 * n:] + base[2 * n:]).unflatten(-1, (n, n)), config)
    output = sublayer(torch.einsum("tn,tnd->td", pre, streams))
    return torch.einsum("tk,td->tkd", post, output) + torch.einsum("tjk,tjd->tkd", mix, streams)


def collapsed(streams, weights, prefix, config):
    """The hyper-connection head: streams [t, n, d] -> [t, d]."""
    flat = streams.flatten(1)
    mixes = rms_norm(flat, config["rms_norm_eps"]) @ weights[prefix + "_fn"].T
    pre = torch.sigmoid(weights[prefix + "_scale"] * mixes + weights[prefix + "_base"]) + config["hc_eps"]
    return torch.einsum("tn,tnd->td", pre, streams)


def compress(x, weights, prefix, ratio, inverse_frequencies, config):
    """Compressed entries [w, c] of whole windows of `ratio` tokens; at ratio 4 each one also sees the window before."""
    windows = len(x) // ratio
    values, gates = (
        (x[:windows * ratio] @ weights[f"{prefix}.{name}.weight"].T).unflatten(0, (windows, ratio))
        for name in ("wkv", "wgate")
    )
    gates = gates + weights[prefix + ".ape"]
    if ratio == 4:
        half = values.shape[-1] // 2
        nothing = torch.zeros_like(values[:1, :, :half])
        values = torch.cat([torch.cat([nothing, values[:-1, :, :half]])[:windows], values[:, :, half:]], 1)
        gates = torch.cat([torch.cat([nothing - math.inf, gates[:-1, :, :half]])[:windows], gates[:, :, half:]], 1)
    pooled = (gates.softmax(1) * values).sum(1)
    normed = rms_norm(pooled, config["rms_norm_eps"], weights[prefix + ".norm.weight"])
    return rotate(normed, torch.arange(windows) * ratio, inverse_frequencies)


def visible_entries(tokens, entries, ratio):
    """[t, w]: entry w once its window has ended."""
    return torch.arange(entries) < (torch.arange(tokens)[:, None] + 1) // ratio


def index_scores(x, compressed_query, weights, prefix, ratio, inverse_frequencies, config):
    """Lightning indexer: [t, w], -inf where the entry is not visible yet."""
    heads, size = config["index_n_heads"], config["index_head_dim"]
    queries = (compressed_query @ weights[prefix + ".wq_b.weight"].T).unflatten(-1, (heads, size))
    queries = rotate(queries, torch.arange(len(x)), inverse_frequencies)
    keys = compress(x, weights, prefix + ".compressor", ratio, inverse_frequencies, config)
    head_weights = x @ weights[prefix + ".weights_proj.weight"].T * (size * heads) ** -0.5
    scores = torch.einsum("th,thw->tw", head_weights, torch.einsum("thc,wc->thw", queries, keys).relu())
    return scores.masked_fill(~visible_entries(len(x), len(keys), ratio), -math.inf)


def select(scores, count):
    """[t, w]: the `count` best of the visible entries, all of them where there are fewer."""
    best = scores.topk(min(count, scores.shape[1]), -1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True) & (scores > -math.inf)


def indexer_divergence(probabilities, scores, selected):
    """KL(teacher | softmax of the index scores) per token [t], both over the selected entries.

    The teacher is the attention's own joint softmax (window, entries and sink in its denominator), probabilities
    [t, h, w], summed over heads and normalised over the selected entries. A token that sees no entry contributes 0.
    """
    some = selected.any(-1)
    teacher = probabilities.detach().sum(1)[some]
    teacher = teacher / teacher.sum(-1, keepdim=True)
    student = scores[some].masked_fill(~selected[some], -math.inf).log_softmax(-1)
    terms = torch.where(selected[some], torch.xlogy(teacher, teacher) - teacher * student, 0)
    return torch.zeros(len(scores), dtype=scores.dtype).masked_scatter(some, terms.sum(-1))


def attention(x, weights, prefix, ratio, config, trace):
    """x [t, d] -> [t, d]: one shared key-value head over a window, compressed entries and a sink."""
    t, heads, c = len(x), config["num_attention_heads"], config["head_dim"]
    epsilon, positions, inverse_frequencies = config["rms_norm_eps"], torch.arange(t), frequencies(config, ratio)
    compressed_query = rms_norm(x @ weights[prefix + ".wq_a.weight"].T, epsilon, weights[prefix + ".q_norm.weight"])
    queries = (compressed_query @ weights[prefix + ".wq_b.weight"].T).unflatten(-1, (heads, c))
    queries = rotate(rms_norm(queries, epsilon), positions, inverse_frequencies)
    keys = rms_norm(x @ weights[prefix + ".wkv.weight"].T, epsilon, weights[prefix + ".kv_norm.weight"])
    keys = rotate(keys, positions, inverse_frequencies)
    distance = positions[:, None] - positions
    visible = (distance >= 0) & (distance < config["sliding_window"])
    if ratio > 0:
        entries = compress(x, weights, prefix + ".compressor", ratio, inverse_frequencies, config)
        selected = visible_entries(t, len(entries), ratio)
        if ratio == 4:
            scores = index_scores(x.detach(), compressed_query.detach(), weights, prefix + ".indexer", ratio,
                                  inverse_frequencies, config)
            selected = select(scores.detach(), config["index_topk"])
        keys, visible = torch.cat([keys, entries]), torch.cat([visible, selected], 1)
        trace["compressed"] = entries
    logits = torch.einsum("thc,kc->thk", queries, keys) * c**-0.5
    logits = logits.masked_fill(~visible[:, None], -math.inf)
    sinks = weights[prefix + ".attn_sink"].expand(t, heads)[..., None]
    probabilities = torch.cat([logits, sinks], -1).softmax(-1)[..., :-1]
    if ratio == 4:
        trace["index_scores"], trace["selected"] = scores, selected
        trace["indexer_kl"] = indexer_divergence(probabilities[..., t:], scores, selected)
    output = torch.einsum("thk,kc->thc", probabilities, keys)
    output = rotate(output, positions, inverse_frequencies, sign=-1).flatten(1)
    groups = config["o_groups"]
    lowered = torch.einsum("tgi,goi->tgo", output.unflatten(-1, (groups, -1)),
                           weights[prefix + ".wo_a.weight"].unflatten(0, (groups, -1)))
    return lowered.flatten(1) @ weights[prefix + ".wo_b.weight"].T


def expert(x, weights, prefix, config):
    limit = config["swiglu_limit"]
    gate = (x @ weights[prefix + ".w1.weight"].T).clamp(max=limit)
    up = (x @ weights[prefix + ".w3.weight"].T).clamp(-limit, limit)
    return (silu(gate) * up) @ weights[prefix + ".w2.weight"].T


def mixture(x, tokens, weights, prefix, config, trace):
    """Routed experts by table or by score, and the shared one."""
    scores = softplus(x @ weights[prefix + ".gate.weight"].T).sqrt()
    if prefix + ".gate.tid2eid" in weights:
        chosen = weights[prefix + ".gate.tid2eid"][tokens]
    else:
        chosen = (scores + weights[prefix + ".gate.bias"]).topk(config["num_experts_per_tok"], -1).indices
    chosen = chosen.sort(-1).values
    mixing = scores.gather(1, chosen)
    mixing = mixing / mixing.sum(-1, keepdim=True) * config["routed_scaling_factor"]
    trace["experts"], trace["expert_weights"] = chosen, mixing
    output = expert(x, weights, prefix + ".shared_experts", config)
    for number in range(config["n_routed_experts"]):
        rows, slots = (chosen == number).nonzero(as_tuple=True)
        routed = expert(x[rows], weights, f"{prefix}.experts.{number}", config) * mixing[rows, slots, None]
        output = output.index_add(0, rows, routed)
    return output


def block(streams, tokens, weights, prefix, ratio, config, trace):
    epsilon = config["rms_norm_eps"]

    def attend(x):
        return attention(rms_norm(x, epsilon, weights[prefix + ".attn_norm.weight"]), weights, prefix + ".attn", ratio,
                         config, trace)

    def feed_forward(x):
        return mixture(rms_norm(x, epsilon, weights[prefix + ".ffn_norm.weight"]), tokens, weights, prefix + ".ffn",
                       config, trace)

    streams = connected(streams, weights, prefix + ".hc_attn", attend, config)
    streams = connected(streams, weights, prefix + ".hc_ffn", feed_forward, config)
    trace["hidden"] = streams
    return streams


def forward(tokens, weights, config):
    """tokens [t] -> logits [t, vocabulary], the streams after the last layer [t, n, d], one trace a layer."""
    streams = weights["embed.weight"][tokens][:, None].expand(-1, config["hc_mult"], -1)
    traces = [{} for _ in range(config["num_hidden_layers"])]
    for layer, trace in enumerate(traces):
        streams = block(streams, tokens, weights, f"layers.{layer}", config["compress_ratios"][layer], config, trace)
    output = rms_norm(collapsed(streams, weights, "hc_head", config), config["rms_norm_eps"], weights["norm.weight"])
    return output @ weights["head.weight"].T, streams, traces


def mtp_forward(tokens, streams, weights, config):
    """Logits [t - 1, vocabulary] for the token after the next one, and the trace, from the last layer's streams."""
    epsilon = config["rms_norm_eps"]
    embedded = rms_norm(weights["embed.weight"][tokens[1:]], epsilon, weights["mtp.0.enorm.weight"])
    projected = rms_norm(streams[:-1], epsilon, weights["mtp.0.hnorm.weight"]) @ weights["mtp.0.h_proj.weight"].T
    joined = (embedded @ weights["mtp.0.e_proj.weight"].T)[:, None] + projected
    trace = {}
    joined = block(joined, tokens[1:], weights, "mtp.0", config["compress_ratios"][-1], config, trace)
    output = rms_norm(collapsed(joined, weights, "mtp.0.hc_head", config), epsilon, weights["mtp.0.norm.weight"])
    return output @ weights["head.weight"].T, trace
