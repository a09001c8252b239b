"""DeepSeek-V4 in plain PyTorch, from a specification of its report and published inference code, not from transformers.

Slow and small: one document, float64, no cache. It is the second opinion on every number that
make_deepseek_v4_parity.py stores, and the only one on what transformers does not have (the MTP block, FP4).

Where `config` says `"expert_dtype": "fp4"`, routed experts compute with weights as FP4 holds them, and indexers with
queries and keys that went through a Hadamard transform and were rounded to FP4; gradients pass the rounding unchanged.
Nothing else is rounded (the published inference code also rounds activations to FP8).

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


FP4_BLOCK = 32  # neighbours in a row that share a scale


class RoundedToFp4(torch.autograd.Function):
    """x as e2m1 with a power of two for every FP4_BLOCK columns, ties to even; the gradient passes straight through."""

    @staticmethod
    def forward(ctx, x):
        scale, scaled = scaled_for_fp4(x)
        # Like a float of one mantissa bit: in steps of half from 0 to 2, of one to 4, of two to 6.
        step = torch.where(scaled.abs() < 2, 0.5, torch.where(scaled.abs() < 4, 1.0, 2.0)).to(x.dtype)
        return ((scaled / step).round() * step * scale).view(x.shape)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def scaled_for_fp4(x):
    """The scales [..., blocks, 1], 2^ceil(log2(largest / 6)), and x over them [..., blocks, FP4_BLOCK], within 6."""
    blocks = x.unflatten(-1, (-1, FP4_BLOCK))
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=6 * 2.0**-126)
    mantissa, exponent = torch.frexp(largest / 6)  # the mantissa from a half to one: a power of two has a half
    scale = torch.ldexp(torch.ones_like(largest), torch.where(mantissa == 0.5, exponent - 1, exponent))
    return scale, blocks / scale


def rounded_to_fp4(x):
    return RoundedToFp4.apply(x)


def fp4_margin(x):
    """How near an element of x is to a tie, or a block's largest to another scale: the least distance, in scales."""
    scaled = scaled_for_fp4(x)[1].abs()
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=x.dtype)
    largest = scaled.amax(-1)
    distances = [(scaled[..., None] - ties).abs(), 6 - largest, largest - 3]
    return min(distance.min().item() for distance in distances)


def hadamard(x):
    """x [..., c] times the orthonormal Hadamard matrix of Sylvester, c a power of two."""
    matrix = torch.ones(1, 1, dtype=x.dtype)
    while len(matrix) < x.shape[-1]:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return x @ matrix * x.shape[-1] ** -0.5


def trained_for_fp4(config):
    return config.get("expert_dtype") == "fp4"


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
    if trained_for_fp4(config):
        queries, keys = rounded_to_fp4(hadamard(queries)), rounded_to_fp4(hadamard(keys))
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


def expert(x, weights, prefix, config, fp4=False):
    limit = config["swiglu_limit"]
    w1, w2, w3 = (weights[f"{prefix}.{name}.weight"] for name in ("w1", "w2", "w3"))
    if fp4:
        w1, w2, w3 = rounded_to_fp4(w1), rounded_to_fp4(w2), rounded_to_fp4(w3)
    gate = (x @ w1.T).clamp(max=limit)
    up = (x @ w3.T).clamp(-limit, limit)
    return (silu(gate) * up) @ w2.T


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
        routed = expert(x[rows], weights, f"{prefix}.experts.{number}", config, trained_for_fp4(config))
        output = output.index_add(0, rows, routed * mixing[rows, slots, None])
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
