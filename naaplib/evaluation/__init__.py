"""How estimators and searches are judged: protocols, rankings, printed tables, figure style."""
