"""What is compiled: records meet what is held, deadlines pass, samples leave, and what changed is put into commands."""
