"""The store in PostgreSQL. Needs the extra ``store``; nothing outside this package imports psycopg."""
