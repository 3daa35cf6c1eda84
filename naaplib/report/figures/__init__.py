"""Figures: functions that take axes and a tidy table."""
