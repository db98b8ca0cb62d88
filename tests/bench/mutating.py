"""Small defects of a module, one at a time: what a slip of the hand would have written instead.

Comparisons and their boundaries, arithmetic, negation, `and`/`or` and a condition left out, `min`/`max`, constants,
members of enumerations, statements left out. Text is left alone (messages, and names that only messages have), as are
annotations, decorators and options of classes.
"""

import ast
import copy
import hashlib
import importlib
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, EnumType
from typing import Any, Final

import msgspec

_COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}


class Mutant(msgspec.Struct, frozen=True):
    """A module with one defect. `what` names function, kind and change, and no line; `id` is a hash of that."""

    id: str
    module: str
    what: str
    source: str


def mutants_of(module: str, source: str, functions: Collection[str] | None = None) -> list[Mutant]:
    """Every mutant of a module (`mmdaemon/core/guard.py`) that compiles and is another program, in the order of the
    text; `functions` leaves only those within them."""
    names = vars(importlib.import_module(module.removesuffix(".py").replace("/", ".")))
    text = source.encode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen = {ast.dump(ast.parse(source))}
    ordinals: dict[str, int] = {}
    found: list[Mutant] = []
    for where, node, kind, new in _changes(ast.parse(source), names):
        if functions is not None and where.partition(".")[0] not in functions:
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        changed = (text[:begin] + new.encode() + text[end:]).decode()
        try:
            form = ast.dump(ast.parse(changed))
            compile(changed, module, "exec")
        except SyntaxError:
            continue  # `pass` for the expression of a `match`, and the like
        if form in seen:
            continue
        seen.add(form)
        old = " ".join(text[begin:end].decode().split())
        what = f"{where}: {kind}: `{old}` -> `{new}`"
        ordinals[what] = ordinals.get(what, 0) + 1
        if ordinals[what] > 1:
            what += f" ({ordinals[what]})"
        found.append(Mutant(hashlib.sha256(f"{module} {what}".encode()).hexdigest()[:8], module, what, changed))
    return found


def _changes(tree: ast.Module, names: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, str]]:
    """(qualified name, node to replace, kind of change, text in its place)."""
    waiting: list[tuple[ast.AST, str, bool]] = [(tree, "", False)]
    while waiting:
        node, where, is_test = waiting.pop()
        if isinstance(node, ast.expr):
            for kind, new in _of_expression(node, names):
                yield where or "module", node, kind, new
        elif isinstance(node, ast.stmt):
            for at, kind, new in _of_statement(node, is_test):
                yield where or "module", at, kind, new
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".strip(".")
            is_test = (
                not isinstance(node, ast.ClassDef) and isinstance(node.returns, ast.Name) and node.returns.id == "bool"
            )
        waiting += [(child, where, is_test) for child in reversed(_children(node))]


def _children(node: ast.AST) -> list[ast.AST]:
    """What may be changed in it, in the order of the text."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Raise() | ast.arg():
            return []
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return []
        case ast.ClassDef():
            return list(node.body)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.args, *node.body]
        case ast.AnnAssign():
            return [node.value] if node.value else []
        case ast.ExceptHandler():
            return list(node.body)
        case _:
            return list(ast.iter_child_nodes(node))


def _of_expression(node: ast.expr, names: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in _COMPARED[type(op)]:
                    changed = copy.deepcopy(node)
                    changed.ops[i] = other()
                    yield "comparison", _text(changed)
        case ast.BinOp() if type(node.op) in _COMPUTED:
            changed = copy.deepcopy(node)
            changed.op = _COMPUTED[type(node.op)]()
            yield "arithmetic", _text(changed)
        case ast.BoolOp():
            changed = copy.deepcopy(node)
            changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "and/or", _text(changed)
            for i in range(len(node.values)):
                left = node.values[:i] + node.values[i + 1 :]
                yield "condition left out", _text(left[0] if len(left) == 1 else ast.BoolOp(node.op, left))
        case ast.UnaryOp(operand=operand) if not isinstance(operand, ast.Constant):
            yield "operator left out", _text(operand)
        case ast.IfExp():
            yield "negated", _text(ast.IfExp(_negated(node.test), node.body, node.orelse))
        case ast.Constant(value=bool(value)):
            yield "constant", str(not value)
        case ast.Constant(value=int(value)):
            yield "constant", str(value + 1)
            yield "constant", f"({value - 1})"
        case ast.Constant(value=float(value)):
            yield "constant", str(value * 2.0 or 1.0)
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, _, *_], keywords=[]):
            changed = copy.deepcopy(node)
            changed.func = ast.Name("max" if name == "min" else "min")
            yield "min/max", _text(changed)
            for i in range(len(node.args)):
                left = node.args[:i] + node.args[i + 1 :]
                yield "limit left out", _text(left[0] if len(left) == 1 else ast.Call(node.func, left, []))
        case ast.Call(func=ast.Name(id="abs"), args=[argument]):
            yield "abs left out", _text(argument)
        case ast.Name() | ast.Attribute():
            other = _other_member(node, names)
            if other:
                yield "member", other
        case _:
            pass


def _of_statement(node: ast.stmt, is_test: bool) -> Iterator[tuple[ast.AST, str, str]]:
    """`is_test`: it is in a function that returns a bool."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            pass
        case ast.If(test=test) | ast.While(test=test) if not isinstance(test, ast.Constant | ast.Compare):
            yield test, "negated", _text(_negated(test))
        case ast.Expr(value=ast.Constant()):
            pass  # text
        case ast.Expr() | ast.Raise() | ast.Delete() | ast.Continue() | ast.Break() | ast.Return(value=None):
            yield node, "left out", "pass"
        case ast.Return(value=ast.expr() as value) if is_test:
            if not isinstance(value, ast.Constant | ast.Compare):
                yield value, "negated", _text(_negated(value))
        case ast.Return(value=value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "returns nothing", "return None"
        case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Name(id=value)) if (
            name.lstrip("_") == value
        ):
            pass  # what it was given: as for a local name
        case ast.Assign(targets=targets) if any(not _is_local(target) for target in targets):
            yield node, "left out", "pass"
        case ast.AugAssign():
            yield node, "left out", "pass"
            yield node, "not added", _text(ast.Assign([node.target], node.value))
            if type(node.op) in _COMPUTED:
                yield node, "arithmetic", _text(ast.AugAssign(node.target, _COMPUTED[type(node.op)](), node.value))
        case _:
            pass


def _is_local(target: ast.expr) -> bool:
    """Without its first assignment there is no such name: a defect that nobody commits unseen."""
    if isinstance(target, ast.Tuple):
        return all(map(_is_local, target.elts))
    return isinstance(target, ast.Name)


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _other_member(node: ast.Name | ast.Attribute, names: Mapping[str, Any]) -> str | None:
    """The next member of the enumeration, said in the same way: `Side.BUY`, or a name that the module gave it."""
    if not isinstance(node.ctx, ast.Load):
        return None
    if isinstance(node, ast.Name):
        value = names.get(node.id)
        if not isinstance(value, Enum):
            return None
        told = [name for name, other in names.items() if type(other) is type(value)]
        return told[(told.index(node.id) + 1) % len(told)] if len(told) > 1 else None
    owner = names.get(node.value.id) if isinstance(node.value, ast.Name) else None
    if not isinstance(owner, EnumType) or node.attr not in owner.__members__:
        return None
    members = list(owner.__members__)
    return f"{ast.unparse(node.value)}.{members[(members.index(node.attr) + 1) % len(members)]}"


def _text(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(node))
    return f"({text})" if isinstance(node, ast.expr) else text
