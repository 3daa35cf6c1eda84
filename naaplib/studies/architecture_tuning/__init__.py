"""Chapter 10: Bayesian optimisation with pretrained ensembles."""
