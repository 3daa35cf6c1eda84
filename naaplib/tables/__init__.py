"""What was measured: the NAAP-440 table, features read off it, and the tables that papers print."""
