"""Deep ensembles, and the zero-cost metrics that pretrain them."""
