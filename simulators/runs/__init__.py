"""Whole runs: demo, backtest, chaos, and what is said of them afterwards."""
