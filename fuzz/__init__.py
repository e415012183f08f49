"""Coverage-guided fuzzing of what reads bytes that anybody may send; no part of the installed package."""
