"""Sweeps over many studies: the specification in `sweep.yml`, its jobs, and a comparison of all results."""
