"""A run: its plan, what it starts from, its steps, its records, and the loop over them."""
