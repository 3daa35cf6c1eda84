"""Deep ensembles, and the metrics that pretrain them."""
