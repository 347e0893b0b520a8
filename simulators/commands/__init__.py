"""Commands of the simulators: demo, replay, backtest, chaos, data, bench."""
