"""What scorers served: its sums by cohort, arm, canary and version, beside what the learner says, and its figures."""
