"""How long a request waits for its answer: until its deadline, and while its client is there."""
