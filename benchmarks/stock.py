"""The prior as transformers has it: its own class for language models, with a prior's weights."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stage2_prior import Prior
from stage2_prior.embeddings import LearnedVocabulary


def stock_model(prior: Prior) -> LlamaForCausalLM:
    """A LlamaForCausalLM that computes the same as `prior`, which must have a learned vocabulary.

    Its vocabulary is exactly the K codes, without entries for conditions: the first codes stand for them. To match,
    this sets the condition vectors of `prior` to the vectors of the first codes.
    """
    assert isinstance(prior.vocabulary, LearnedVocabulary)
    config = prior.body.config.to_dict() | {
        "vocab_size": prior.config.codebook_size,
        "max_position_embeddings": prior.config.length + 1,
    }
    stock = LlamaForCausalLM(LlamaConfig(**config))
    missing, unexpected = stock.model.load_state_dict(prior.body.state_dict(), strict=False)
    assert missing == ["embed_tokens.weight"] and not unexpected
    with torch.no_grad():
        stock.model.embed_tokens.weight.copy_(prior.vocabulary.embedding.weight)
        stock.lm_head.weight.copy_(prior.vocabulary.output.weight)
        prior.condition_embedding.weight.copy_(
            prior.vocabulary.embedding.weight[: prior.condition_embedding.num_embeddings]
        )
    stock.generation_config.eos_token_id = None
    return stock.to(prior.condition_embedding.weight.device)  # type: ignore[arg-type]
