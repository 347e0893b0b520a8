"""What AdaF2M2 did for users of Douyin Music: the paper's Table 1 (arXiv 2501.15816), ranking, relative differences.

The framework on a multi-task model with DCN-V2, against that model alone; new users are those who registered fewer days
ago than a number that the paper does not name.
"""

_METRICS = ("active_days", "duration", "like", "finish", "comment", "dislike")

TABLE_1 = {
    group: dict(zip(_METRICS, (percent / 100 for percent in of), strict=True))
    for group, of in {
        "new": (0.333, 0.540, 0.562, 0.418, 0.402, -2.246),
        "old": (0.206, 0.434, 0.387, 0.157, 0.230, -1.394),
        "all": (0.212, 0.442, 0.418, 0.224, 0.262, -1.594),
    }.items()
}
"""Group -> metric -> relative difference."""
