"""Design: which small runs to make, and what they can tell, before any is paid for."""
