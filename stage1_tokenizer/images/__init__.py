"""Pictures: their data, networks, losses and tokenizer."""
