"""One module a finding: per-document sums and weights in, tidy tables out."""
