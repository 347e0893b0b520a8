"""The papers' equations in NumPy, float64, on the weights of our modules: w is a state dict, emb_BFD the fields."""

from collections.abc import Callable, Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def layers(w: Weights, name: str, x: np.ndarray, *, last_is_linear: bool) -> np.ndarray:
    """a^(l+1) = ReLU(W a^(l) + b)."""
    found = sorted(int(key.split(".")[1]) for key in w if key.startswith(f"{name}.") and key.endswith(".weight"))
    for n in found:
        x = x @ w[f"{name}.{n}.weight"].T + w[f"{name}.{n}.bias"]
        x = x if last_is_linear and n == found[-1] else relu(x)
    return x


def flat(emb_BFD: np.ndarray) -> np.ndarray:
    return np.concatenate([emb_BFD[:, f] for f in range(emb_BFD.shape[1])], axis=1)


def normal(x: np.ndarray, axes: tuple[int, ...], gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Layer normalisation (Ba et al., 2016, eq. 3 and 4) over the axes."""
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + bias


def pairs(emb_BFD: np.ndarray) -> np.ndarray:
    """Rendle 2010, eq. 1: one pair after the other."""
    num_fields, sum_B = emb_BFD.shape[1], np.zeros(len(emb_BFD))
    for i in range(num_fields):
        for j in range(i + 1, num_fields):
            sum_B += (emb_BFD[:, i] * emb_BFD[:, j]).sum(1)
    return sum_B


def fm(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return w["bias"] + pairs(emb_BFD)


def deepfm(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return pairs(emb_BFD) + layers(w, "deep", flat(emb_BFD), last_is_linear=True)[:, 0]


def dnn(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return layers(w, "deep", flat(emb_BFD), last_is_linear=True)[:, 0]


def youtubednn(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return layers(w, "tower", flat(emb_BFD), last_is_linear=True)[:, 0]


def cross(w: Weights, x0_BW: np.ndarray) -> np.ndarray:
    """Wang et al. 2021: eq. 1, or with low-rank matrices eq. 2, or with several of them eq. 3 and 4."""
    x_BW, n = x0_BW, 0
    while any(key.startswith(f"cross.{n}.") for key in w):
        name = f"cross.{n}."
        if f"{name}weight" in w:
            made_BW = x_BW @ w[f"{name}weight"].T + w[f"{name}bias"]
            x_BW = x0_BW * made_BW + x_BW
        elif f"{name}gate.weight" not in w:
            made_BW = (x_BW @ w[f"{name}down_KWR"][0]) @ w[f"{name}up_KRW"][0] + w[f"{name}bias_W"]
            x_BW = x0_BW * made_BW + x_BW
        else:
            scores_BK = np.exp(x_BW @ w[f"{name}gate.weight"].T)
            gates_BK = scores_BK / scores_BK.sum(1, keepdims=True)
            next_BW = x_BW
            for k in range(gates_BK.shape[1]):
                low_BR = np.tanh(np.tanh(x_BW @ w[f"{name}down_KWR"][k]) @ w[f"{name}middle_KRR"][k])
                expert_BW = x0_BW * (low_BR @ w[f"{name}up_KRW"][k] + w[f"{name}bias_W"])
                next_BW = next_BW + gates_BK[:, k : k + 1] * expert_BW
            x_BW = next_BW
        n += 1
    return x_BW


def dcnv2(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    x0_BW = flat(emb_BFD)
    both = np.concatenate([cross(w, x0_BW), layers(w, "deep", x0_BW, last_is_linear=False)], axis=1)
    return (both @ w["head.weight"].T + w["head.bias"])[:, 0]


def dcnv2_stacked(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return layers(w, "deep", cross(w, flat(emb_BFD)), last_is_linear=True)[:, 0]


def afn(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    """Cheng et al. 2020: y_j = exp(sum_i w_ij ln v_i + b_j), in products of powers where nothing is normalised."""
    positive_BFD = np.maximum(np.abs(emb_BFD), 1e-5)
    weight_JF, bias_J = w["logarithmic.neurons.weight"], w["logarithmic.neurons.bias"]
    normalised = "logarithmic.before.weight" in w
    if normalised:
        gain, bias = w["logarithmic.before.weight"], w["logarithmic.before.bias"]
        positive_BFD = np.exp(normal(np.log(positive_BFD), (1, 2), gain, bias))
    crosses = []
    for weight_F, bias in zip(weight_JF, bias_J, strict=True):
        product_BD = np.exp(bias) * np.ones_like(positive_BFD[:, 0])
        for f, power in enumerate(weight_F):
            product_BD = product_BD * positive_BFD[:, f] ** power
        crosses.append(product_BD)
    crosses_BJD = np.stack(crosses, axis=1)
    if normalised:
        crosses_BJD = normal(crosses_BJD, (1, 2), w["logarithmic.behind.weight"], w["logarithmic.behind.bias"])
    logit_B = layers(w, "deep", flat(crosses_BJD), last_is_linear=True)[:, 0]
    if "weigh.weight" in w:
        dnn_B = layers(w, "dnn", flat(emb_BFD), last_is_linear=True)[:, 0]
        logit_B = w["weigh.weight"][0, 0] * logit_B + w["weigh.weight"][0, 1] * dnn_B + w["weigh.bias"][0]
    return logit_B


def eulernet(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    """Tian et al. 2023, in complex numbers: prod_j z_j^alpha_kj, which their sums of logarithms and phases are."""
    z_BID = w["modulus_F1"] * np.exp(1j * emb_BFD)
    n = 0
    while f"layers.{n}.orders_IO" in w:
        name = f"layers.{n}."
        orders_IO = w[f"{name}orders_IO"]
        modulus_BID, phase_BID = np.sqrt(np.abs(z_BID) ** 2 + 1e-8), np.angle(z_BID)
        next_orders = []
        for k in range(orders_IO.shape[1]):
            bias_D = np.exp(w[f"{name}modulus_bias_OD"][k] + 1j * w[f"{name}phase_bias_OD"][k])
            product_BD = np.ones_like(z_BID[:, 0]) * bias_D
            for j, alpha in enumerate(orders_IO[:, k]):
                product_BD = product_BD * modulus_BID[:, j] ** alpha * np.exp(1j * alpha * phase_BID[:, j])
            next_orders.append(product_BD)
        explicit_BOD = np.stack(next_orders, axis=1)
        weight, bias = w[f"{name}implicit.weight"], w[f"{name}implicit.bias"]
        r_BX, p_BX = (relu(flat(part) @ weight.T + bias) for part in (z_BID.real, z_BID.imag))
        z_BID = explicit_BOD + (r_BX + 1j * p_BX).reshape(explicit_BOD.shape)
        if f"{name}normalise_r.weight" in w:
            r = normal(z_BID.real, (2,), w[f"{name}normalise_r.weight"], w[f"{name}normalise_r.bias"])
            p = normal(z_BID.imag, (2,), w[f"{name}normalise_p.weight"], w[f"{name}normalise_p.bias"])
            z_BID = r + 1j * p
        n += 1
    logits_B1 = [flat(part) @ w["head.weight"].T + w["head.bias"] for part in (z_BID.real, z_BID.imag)]
    return (logits_B1[0] + logits_B1[1])[:, 0]


def sif(w: Weights, emb_BFD: np.ndarray) -> np.ndarray:
    return layers(w, "end", emb_BFD.mean(1), last_is_linear=True)[:, 0]


EQUATIONS: Mapping[str, Callable[[Weights, np.ndarray], np.ndarray]] = {
    "fm": fm,
    "deepfm": deepfm,
    "dnn": dnn,
    "youtubednn": youtubednn,
    "afn": afn,
    "dcnv2": dcnv2,
    "dcnv2_stacked": dcnv2_stacked,
    "eulernet": eulernet,
    "sif": sif,
}
