"""The inputs and measurements of a study: model, text, windows and frequencies in, effects of every neuron out."""
