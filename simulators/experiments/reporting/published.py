"""What others report for MovieLens-1M, random 6:2:2, rating of 4 or more positive and 3 negative; test AUC."""

PAPER = {
    "fm": (0.7767, 0.7808),
    "youtubednn": (0.7857, 0.7871),
    "afn": (0.7878, 0.7889),
    "dcnv2": (0.7886, 0.7905),
    "eulernet": (0.7911, 0.7921),
}
"""AdaF2M2, Table 3: base model, and with AdaF2M2."""
FUXICTR = {"fm": 0.7910, "dnn": 0.8127, "dcnv2": 0.8126, "eulernet": 0.8116}
"""FuxiCTR 2.3.10 on the same protocol and fields, batch 256, learning rate .001, 16 dimensions; FM after 4 epochs and
still rising. One draw of the split, which is none of ours, and draws differ by .001 and more (`learner/RESULTS.md`)."""
