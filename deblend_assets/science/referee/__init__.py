"""What the referee makes of tables of estimates: comparisons, verdicts, and what has become worse."""
