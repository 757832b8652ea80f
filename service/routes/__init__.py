"""The routes: each parses, calls the library and answers bytes."""
