"""Assets: configuration → science → store → a result with numbers and plots. Thin; one folder a group."""
