"""A query from the command line as a problem."""

from workflow.problem import Problem


def query_problem(query: str, entry_point: str, tests: tuple[str, ...]) -> Problem:
    """A problem with public tests alone, nothing hidden.

    Raises:
        ValueError: the query is empty, or the name or a test is not Python.
    """
    if not query.strip():
        raise ValueError("The query is empty: give the text of the problem to solve.")
    for text in (query, *tests):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{text[:80]!a} is no text in UTF-8: correct its encoding.")
    if not entry_point.isidentifier():
        raise ValueError(f"--entry {entry_point!r} cannot be the name of a function: give one like solve.")
    for test in tests:
        try:
            compile(test, "<test>", "exec")
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            raise ValueError(f'The test {test!r} is not Python ({reason}): write it like "assert {entry_point}([1, 2]) == 3".') from None
    return Problem(id="query", query=query, entry_point=entry_point, public_tests=tests, hidden_tests=(), source="query")
