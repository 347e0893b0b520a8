"""The frozen twin: what learning online is worth."""
