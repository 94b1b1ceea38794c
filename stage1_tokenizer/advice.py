"""What to change where few codes are used: it depends on what moves the codes that no latent chooses."""

DENSE = (
    "The codes lie among the latents but too dense for them: lower the codebook_size, or raise the loss weight of the "
    "quantizer (tokenizer.model.quantizer.weight)."
)
"""For unused codes that are less than twice as far from the latents as used ones (`NEAR` in findings.py)."""
CHOSEN = "Only codes that are chosen move: use simvq, or ema with reset=state"
W = (
    "All codes move with W alone: raise tokenizer.model.quantizer.weight or tokenizer.quantizer_lr, train longer, or "
    "set tokenizer.model.quantizer.rescale=true."
)
RESET = (
    "Only codes that are chosen move, unless a reset replaces the others: set tokenizer.model.quantizer.reset=state "
    "or, if it is set, lower tokenizer.model.quantizer.decay, so that resets come sooner."
)
UNUSED = {
    "simvq": W,
    "residual-simvq": W,
    "vq": f"{CHOSEN}, or initialise from data (tokenizer.model.quantizer.start=data).",
    "fc": f"{CHOSEN}.",
    "ema": RESET,
    "rq": RESET,
    "cvq": "Unused codes move to the latents, sooner with a lower tokenizer.model.quantizer.decay: lower it, or train longer.",
    "affine": "Codes that no latent chose in tokenizer.model.quantizer.replace_after steps become latents (0 is never): "
    "lower it, or train longer.",
    "lc": "All codes move with the projector alone: raise tokenizer.model.quantizer.weight or tokenizer.quantizer_lr, "
    "or train longer.",
    "qinco": "Raise tokenizer.model.quantizer.weight or tokenizer.quantizer_lr, train longer, or lower "
    "tokenizer.model.quantizer.codebook_size.",
    "scvae": "The atoms are fixed: lower tokenizer.model.quantizer.sparsity, tokenizer.model.quantizer.atoms or "
    "tokenizer.model.quantizer.values.",
    "fsq": "The codes are fixed, so that the latents must spread: change tokenizer.model.quantizer.gain, train longer, or "
    "set fewer tokenizer.model.quantizer.levels.",
    "lfq": "The codes are fixed, so that the latents must spread: raise tokenizer.model.quantizer.entropy_weight, train "
    "longer, or lower tokenizer.model.quantizer.codebook_size.",
    "ibq": "All codes learn, by their probabilities: raise tokenizer.model.quantizer.entropy_weight or "
    "tokenizer.quantizer_lr, or train longer.",
    "hqa": "One code is reset in every 20 steps: train longer, or lower tokenizer.model.quantizer.codebook_size.",
    "sqvae": "All codes learn, by their probabilities: change tokenizer.model.quantizer.start (a Gaussian variance wants "
    "to be about a third of code_dim), or train longer.",
    "wae": "The transport moves all codes: raise tokenizer.model.quantizer.weight or tokenizer.quantizer_lr, or train longer.",
}
"""By method."""
UNKNOWN = "Where only codes that are chosen move, use simvq, or ema with reset=state, or initialise from data."
"""For a quantizer from elsewhere."""
