"""Who can tell early: estimators that predict a network's accuracy."""
