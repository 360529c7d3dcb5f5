r"""What does a CEL expression of a CRD's validation rule say of a value?

It reads the part of the Common Expression Language that validation rules are mostly made of:

    expr    = or ("?" or ":" expr)?            or  = and ("||" and)*      and   = rel ("&&" rel)*
    rel     = sum (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum)*   sum   = term (("+" | "-") term)*
    term    = unary (("*" | "/" | "%") unary)* unary = ("!" | "-")* postfix
    postfix = primary ("." name | "." name "(" args ")" | "[" expr "]")*

with `has`, `size`, the conversions `string` and `int`, the methods of strings and lists, and the macros
`all`, `exists`, `exists_one`, `filter` and `map`. Kubernetes' libraries (`quantity`, `ip`, `cidr`, `url`,
dates) are not known: an expression that uses them is `UnknownError`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<float>\d+\.\d+(?:[eE][-+]?\d+)?)
      | (?P<int>0x[0-9a-fA-F]+|\d+)u?
      | (?P<raw>[rR](?:'[^']*'|"[^"]*"))
      | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<operator>\|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

Scope = Mapping[str, Any]
Expression = Callable[[Scope], Any]


class UnknownError(ValueError):
    """The expression cannot be read, or uses something that is not known here."""


class EvaluationError(ValueError):
    """The expression has no value here, such as when it reads a field that is not there."""


@cache
def compiled(text: str) -> Expression:
    """Read an expression; raises `UnknownError`. Evaluating it may raise `EvaluationError`."""
    parser = _Parser(text)
    expression = parser.expression()
    if parser.peek():
        raise UnknownError(f"{parser.peek()!r} is not expected")
    return expression


class _Parser:
    """Reads one expression by recursive descent."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise UnknownError(f"cannot read {text[at:]!r}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self._at = 0

    def peek(self) -> str:
        """The next token; empty at the end. A string never looks like an operator here."""
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        return f"'{text}" if kind in ("string", "raw") else text

    def _take(self, *wanted: str) -> str:
        token = self.peek()
        if token not in wanted or not token:
            return ""
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            raise UnknownError(f"{wanted!r} is expected, not {self.peek()!r}")

    def expression(self) -> Expression:
        condition = self._chain("||", self._and, _either)
        if not self._take("?"):
            return condition
        yes = self.expression()
        self._expect(":")
        no = self.expression()
        return lambda scope: yes(scope) if _truth(condition(scope)) else no(scope)

    def _and(self) -> Expression:
        return self._chain("&&", self._relation, _both)

    def _chain(
        self,
        operator: str,
        part: Callable[[], Expression],
        joined: Callable[[Expression, Expression], Expression],
    ) -> Expression:
        left = part()
        while self._take(operator):
            left = joined(left, part())
        return left

    def _relation(self) -> Expression:
        left = self._sum()
        while operator := self._take("==", "!=", "<", "<=", ">", ">=", "in"):
            left = _binary(operator, left, self._sum())
        return left

    def _sum(self) -> Expression:
        left = self._term()
        while operator := self._take("+", "-"):
            left = _binary(operator, left, self._term())
        return left

    def _term(self) -> Expression:
        left = self._unary()
        while operator := self._take("*", "/", "%"):
            left = _binary(operator, left, self._unary())
        return left

    def _unary(self) -> Expression:
        if self._take("!"):
            inner = self._unary()
            return lambda scope: not _truth(inner(scope))
        if self._take("-"):
            inner = self._unary()
            return lambda scope: -_number(inner(scope))
        return self._postfix(self._primary())

    def _postfix(self, value: Expression) -> Expression:
        while True:
            if self._take("."):
                name = self._name()
                value = self._method(value, name) if self._take("(") else _field(value, name)
            elif self._take("["):
                index = self.expression()
                self._expect("]")
                value = _item(value, index)
            else:
                return value

    def _name(self) -> str:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind != "name":
            raise UnknownError(f"a name is expected, not {text!r}")
        self._at += 1
        return text

    def _primary(self) -> Expression:
        if self._take("("):
            inner = self.expression()
            self._expect(")")
            return inner
        if self._take("["):
            items = self._until("]")
            return lambda scope: [item(scope) for item in items]
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        match kind:
            case "int":
                return _constant(int(text, 0))
            case "float":
                return _constant(float(text))
            case "string":
                return _constant(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text[1:-1]))
            case "raw":
                return _constant(text[2:-1])
            case "name" if text in ("true", "false", "null"):
                return _constant({"true": True, "false": False}.get(text))
            case "name":
                return self._function(text) if self._take("(") else _variable(text)
            case _:
                raise UnknownError(f"{text!r} is not expected")

    def _until(self, end: str) -> list[Expression]:
        items: list[Expression] = []
        while not self._take(end):
            if items:
                self._expect(",")
            items.append(self.expression())
        return items

    def _function(self, name: str) -> Expression:
        arguments = self._until(")")
        function = _FUNCTIONS.get(name)
        if name == "has" and len(arguments) == 1:
            return _has(arguments[0])
        if function is None or len(arguments) != 1:
            raise UnknownError(f"the function {name} is not known")
        argument = arguments[0]
        return lambda scope: function(argument(scope))

    def _method(self, value: Expression, name: str) -> Expression:
        macro = _MACROS.get(name)
        if macro is not None:
            variable = self._name()
            self._expect(",")
            inner = self.expression()
            self._expect(")")
            return lambda scope: macro(lambda item: inner({**scope, variable: item}), _items(value(scope)))
        arguments = self._until(")")
        method = _METHODS.get(name)
        if method is None:
            raise UnknownError(f"the method {name} is not known")
        return lambda scope: _called(method, value(scope), [argument(scope) for argument in arguments])


def _constant(value: Any) -> Expression:
    return lambda _scope: value


def _variable(name: str) -> Expression:
    def read(scope: Scope) -> Any:
        if name not in scope:
            raise EvaluationError(f"undeclared reference to {name!r}")
        return scope[name]

    return read


def _field(value: Expression, name: str) -> Expression:
    def read(scope: Scope) -> Any:
        inner = value(scope)
        if not isinstance(inner, dict) or name not in inner:
            raise EvaluationError(f"no such key: {name}")
        return inner[name]

    return read


def _item(value: Expression, index: Expression) -> Expression:
    def read(scope: Scope) -> Any:
        try:
            return value(scope)[index(scope)]
        except (KeyError, IndexError, TypeError) as wrong:
            raise EvaluationError(f"no such item: {wrong}") from wrong

    return read


def _has(field: Expression) -> Expression:
    def there(scope: Scope) -> bool:
        try:
            field(scope)
        except EvaluationError:
            return False
        return True

    return there


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise EvaluationError("no such overload: a boolean is expected")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EvaluationError("no such overload: a number is expected")
    return value


def _either(left: Expression, right: Expression) -> Expression:
    return lambda scope: _decided_by(left, right, scope, decisive=True)


def _both(left: Expression, right: Expression) -> Expression:
    return lambda scope: _decided_by(left, right, scope, decisive=False)


def _decided_by(left: Expression, right: Expression, scope: Scope, *, decisive: bool) -> bool:
    """`||` and `&&` are decided by either side, even when the other side is an error."""
    try:
        if _truth(left(scope)) is decisive:
            return decisive
    except EvaluationError:
        if _truth(right(scope)) is decisive:
            return decisive
        raise
    return _truth(right(scope))


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if isinstance(a, float) else int(a / b),
    "%": lambda a, b: a % b,
}


def _binary(operator: str, left: Expression, right: Expression) -> Expression:
    function = _OPERATORS[operator]

    def value(scope: Scope) -> Any:
        try:
            return function(left(scope), right(scope))
        except (TypeError, ZeroDivisionError) as wrong:
            raise EvaluationError(f"no such overload: {wrong}") from wrong

    return value


def _items(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, dict)):
        raise EvaluationError("no such overload: a list or map is expected")
    return list(value)


_MACROS: dict[str, Callable[[Callable[[Any], Any], Sequence[Any]], Any]] = {
    "all": lambda test, items: all(_truth(test(item)) for item in items),
    "exists": lambda test, items: any(_truth(test(item)) for item in items),
    "exists_one": lambda test, items: sum(_truth(test(item)) for item in items) == 1,
    "filter": lambda test, items: [item for item in items if _truth(test(item))],
    "map": lambda change, items: [change(item) for item in items],
}

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "size": lambda value: _called(len, value, []),
    "string": lambda value: str(value).lower() if isinstance(value, bool) else str(value),
    "int": lambda value: _called(int, value, []),
    "double": lambda value: _called(float, value, []),
}

_METHODS: dict[str, Callable[..., Any]] = {
    "size": len,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": lambda text, part: part in text,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "lowerAscii": str.lower,
    "upperAscii": str.upper,
    "trim": str.strip,
    "split": str.split,
    "join": lambda items, separator="": separator.join(items),
    "isSorted": lambda items: items == sorted(items),
    "sum": sum,
    "min": min,
    "max": max,
}


def _called(function: Callable[..., Any], value: Any, arguments: list[Any]) -> Any:
    try:
        return function(value, *arguments)
    except (TypeError, ValueError, re.error) as wrong:
        raise EvaluationError(f"no such overload: {wrong}") from wrong
