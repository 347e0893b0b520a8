"""Logged and synthetic event streams, their replay, the oracle, the backtest and the demo."""
