"""What is shown: protocols that make tidy tables, model selection, figures."""
