"""SpeechDataset: their data, networks, losses and tokenizer."""
