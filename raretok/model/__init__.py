"""Models: a name becomes a readout (five tensors) and a trace (activations); all knowledge of architectures is here."""
