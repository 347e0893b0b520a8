"""Where the deep part computes, and where its rows lie: on the CPU and in the table, or on a GPU."""
