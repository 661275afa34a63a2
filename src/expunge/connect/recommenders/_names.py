"""Names that a pickle of arrow tables and plain values may use; one list, for whoever reads one. None of them is run."""

from __future__ import annotations

_ARROW = ("_restore_array", "_reconstruct_table", "chunked_array", "py_buffer", "schema", "field", "type_for_alias")
_ARROW_TYPES = ("timestamp", "duration", "time32", "time64", "date32", "date64", "list_", "large_list", "dictionary")
_BUILTINS = ("bytes", "str", "int", "float", "bool", "type", "list", "dict", "tuple")
_NUMPY = ("bytes_", "str_", "object_", "integer", "floating", "int32", "int64", "float32", "float64")
_TYPING = ("typing.Any", "typing.Union", "types.GenericAlias", "types.UnionType", "_operator.getitem", "_operator.or_")
ARROW_PICKLES = frozenset(
    [f"pyarrow.lib.{name}" for name in (*_ARROW, *_ARROW_TYPES)]
    + [f"builtins.{name}" for name in _BUILTINS]
    + [f"numpy.{name}" for name in _NUMPY]
    + list(_TYPING)
)
